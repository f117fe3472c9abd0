"""Train on sentences whose descriptions are kept in memory."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Sentences(Dataset):
    """Sentences as tensors, and one Python record of each one's origin."""

    def __init__(self, sentences, length, words):
        generator = torch.Generator().manual_seed(1)
        self.tokens = torch.randint(0, words, (sentences, length), generator=generator)
        self.labels = (self.tokens < words // 2).float().mean(dim=1)
        self.origins = [
            {"corpus": "news", "line": line, "span": [line, line + length]}
            for line in range(sentences)
        ]

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        return self.tokens[index], self.labels[index]


class BagOfWords(nn.Module):
    """Mean of word vectors, then a multilayer perceptron."""

    def __init__(self, words, width):
        super().__init__()
        self.vectors = nn.EmbeddingBag(words, width)
        self.layers = nn.Sequential(
            nn.Linear(width, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, 2 * width),
            nn.ReLU(),
            nn.Linear(2 * width, 1),
        )

    def forward(self, tokens):
        return self.layers(self.vectors(tokens)).squeeze(1)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--sentences", type=int, default=20_000)
    parser.add_argument("--steps", type=int, default=120)
    parser.add_argument("--words", type=int, default=2000)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = Sentences(args.sentences, length=24, words=args.words)
    loader = DataLoader(data, batch_size=64, shuffle=True)
    model = BagOfWords(args.words, width=384)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
    criterion = nn.MSELoss()

    started = time.perf_counter()
    for step, (tokens, labels) in enumerate(loader, start=1):
        optimizer.zero_grad()
        loss = criterion(model(tokens), labels)
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            print(f"step {step}: loss {loss.item():.4f}")
        if step == args.steps:
            break
    print(f"{step} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
