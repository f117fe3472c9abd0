"""Two-tower recommender with a large item catalogue."""

import argparse
import time

import torch
from torch import nn


class TwoTower(nn.Module):
    def __init__(self, users, items, width):
        super().__init__()
        self.user = nn.Embedding(users, width)
        self.item = nn.Embedding(items, width, sparse=True)
        self.mix = nn.Sequential(nn.Linear(2 * width, 512), nn.ReLU(), nn.Linear(512, 1))

    def forward(self, u, i):
        return self.mix(torch.cat([self.user(u), self.item(i)], dim=1)).squeeze(1)


def batches(users, items, size, count):
    for _ in range(count):
        u = torch.randint(users, (size,))
        i = torch.randint(items, (size,))
        yield u, i, ((u + i) % 2).float()


def main():
    cli = argparse.ArgumentParser()
    cli.add_argument("--users", type=int, default=500)
    cli.add_argument("--items", type=int, default=60000)
    cli.add_argument("--width", type=int, default=32)
    cli.add_argument("--batch", type=int, default=256)
    cli.add_argument("--steps", type=int, default=300)
    args = cli.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = TwoTower(args.users, args.items, args.width)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    t0 = time.perf_counter()
    for u, i, y in batches(args.users, args.items, args.batch, args.steps):
        loss = nn.functional.binary_cross_entropy_with_logits(model(u, i), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.4f}, {time.perf_counter() - t0:.2f} s")


if __name__ == "__main__":
    main()
