"""Ranks documents with wide layers and small batches."""

import argparse

import torch
from torch import nn


class Ranker(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.first = nn.Linear(256, width)
        self.second = nn.Linear(width, width)
        self.score = nn.Linear(width, 1)

    def forward(self, documents):
        return self.score(torch.relu(self.second(torch.relu(self.first(documents))))).squeeze(1)


def pairs(count, size):
    for _ in range(count):
        yield torch.randn(size, 256), torch.randn(size, 256) + 0.05


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=200)
    parser.add_argument("--width", type=int, default=1536)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = Ranker(args.width)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-4)
    for better, worse in pairs(args.steps, size=8):
        optimizer.zero_grad()
        loss = nn.functional.softplus(model(worse) - model(better)).mean()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
