"""Masked tokens are predicted from sentences that a worker process noises while the model trains."""

import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

WORDS, LENGTH, BATCH, STEPS = 2_000, 32, 32, 1_000
MASK = 1


def noised(sentence, rng):
    """Masks, swaps and repeats words, as people do it for text."""
    words = list(sentence)
    for place in range(len(words) - 1):
        chance = rng.random()
        if chance < 0.15:
            words[place] = MASK
        elif chance < 0.20:
            words[place], words[place + 1] = words[place + 1], words[place]
        elif chance < 0.25:
            words[place] = words[place + 1]
        elif chance < 0.28:
            words[place] = rng.randrange(2, WORDS)
    return words


def make_batch(corpus, rng):
    clean = [corpus[rng.randrange(len(corpus))] for _ in range(BATCH)]
    noisy = [
        min((noised(one, rng) for _ in range(3)), key=lambda it: it.count(MASK)) for one in clean
    ]
    return torch.tensor(noisy), torch.tensor(clean)


class Batches(Dataset):
    """Each item is a whole batch, made by a worker process."""

    def __init__(self, corpus):
        self.corpus = corpus

    def __len__(self):
        return STEPS

    def __getitem__(self, index):
        return make_batch(self.corpus, random.Random(7 + index))


class Denoiser(nn.Module):
    def __init__(self, width=48):
        super().__init__()
        self.embed = nn.Embedding(WORDS, width)
        layer = nn.TransformerEncoderLayer(width, 4, 96, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2)
        self.out = nn.Linear(width, WORDS // 10)

    def forward(self, words):
        return self.out(self.encoder(self.embed(words)))


def main():
    torch.set_num_threads(1)
    torch.manual_seed(0)
    rng = random.Random(1)
    corpus = [[rng.randrange(2, WORDS) for _ in range(LENGTH)] for _ in range(4_000)]
    model = Denoiser()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    loader = DataLoader(Batches(corpus), batch_size=None, num_workers=1, prefetch_factor=6)
    for step, (noisy, clean) in enumerate(loader):
        scores = model(noisy).transpose(1, 2)
        loss = nn.functional.cross_entropy(scores, clean // 10)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 250 == 0:
            print(f"step {step}: {loss.item():.3f}")


if __name__ == "__main__":
    main()
