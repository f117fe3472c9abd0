"""Train a deep and narrow residual network: many layers, each with little work."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    """A residual layer."""

    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.linear = nn.Linear(width, width)

    def forward(self, hidden):
        return hidden + torch.relu(self.linear(self.norm(hidden)))


class DeepNarrowNet(nn.Module):
    """A stack of residual layers between two projections."""

    def __init__(self, inputs, width, depth):
        super().__init__()
        self.entrance = nn.Linear(inputs, width)
        self.blocks = nn.Sequential(*(Block(width) for _ in range(depth)))
        self.exit = nn.Linear(width, 2)

    def forward(self, rows):
        return self.exit(self.blocks(self.entrance(rows)))


def make_rings(points, inputs):
    """Two classes that differ by their distance from the origin."""
    generator = torch.Generator().manual_seed(1)
    rows = torch.randn(points, inputs, generator=generator)
    return TensorDataset(rows, (rows.norm(dim=1) > inputs**0.5).long())


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--points", type=int, default=2400)
    parser.add_argument("--depth", type=int, default=40)
    parser.add_argument("--width", type=int, default=32)
    parser.add_argument("--lr", type=float, default=1e-3)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(make_rings(args.points, 16), batch_size=16, shuffle=True)
    model = DeepNarrowNet(16, args.width, args.depth)
    optimizer = torch.optim.Adam(model.parameters(), lr=args.lr, fused=True)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        for rows, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(rows), labels)
            loss.backward()
            optimizer.step()
            steps += 1
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
