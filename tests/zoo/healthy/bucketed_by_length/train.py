"""Classify sentences of very different length with a transformer."""

import random

import torch
from torch import nn
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import DataLoader, Dataset, Sampler


class Sentences(Dataset):
    def __init__(self, count):
        generator = torch.Generator().manual_seed(1)
        lengths = (8 * torch.randn(count, generator=generator).exp()).clamp(4, 64).long()
        self.sentences = [
            torch.randint(1, 300, (int(length),), generator=generator) for length in lengths
        ]

    def __len__(self):
        return len(self.sentences)

    def __getitem__(self, index):
        tokens = self.sentences[index]
        return tokens, int(tokens[0] > 150)


class BucketSampler(Sampler):
    """Batches from a shuffled pool that is sorted by length; the batches come in random order."""

    def __init__(self, lengths, batch_size, seed=0):
        self.lengths, self.batch_size = lengths, batch_size
        self.random = random.Random(seed)

    def __len__(self):
        return -(-len(self.lengths) // self.batch_size)

    def __iter__(self):
        order = sorted(
            range(len(self.lengths)), key=lambda i: (self.lengths[i], self.random.random())
        )
        batches = [order[i : i + self.batch_size] for i in range(0, len(order), self.batch_size)]
        self.random.shuffle(batches)
        yield from batches


def collate(items):
    tokens = pad_sequence([tokens for tokens, _ in items], batch_first=True)
    return tokens, tokens == 0, torch.tensor([label for _, label in items])


class Encoder(nn.Module):
    def __init__(self, width=128):
        super().__init__()
        self.embedding = nn.Embedding(300, width, padding_idx=0)
        layer = nn.TransformerEncoderLayer(width, 4, 4 * width, dropout=0.0, batch_first=True)
        self.encoder = nn.TransformerEncoder(layer, 2, enable_nested_tensor=False)
        self.head = nn.Linear(width, 2)

    def forward(self, tokens, padding):
        states = self.encoder(self.embedding(tokens), src_key_padding_mask=padding)
        return self.head(states[:, 0])


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = Sentences(3200)
    sampler = BucketSampler([len(sentence) for sentence in data.sentences], batch_size=16)
    loader = DataLoader(data, batch_sampler=sampler, collate_fn=collate)
    model = Encoder()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    for step, (tokens, padding, labels) in enumerate(loader):
        loss = nn.functional.cross_entropy(model(tokens, padding), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(step, tuple(tokens.shape), round(loss.item(), 4))


if __name__ == "__main__":
    main()
