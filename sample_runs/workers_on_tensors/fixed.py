"""Fit a regression to a table that is already in memory."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Regressor(nn.Module):
    """A multilayer perceptron with one output."""

    def __init__(self, columns, hidden):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(columns, hidden),
            nn.ReLU(),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, 1),
        )

    def forward(self, rows):
        return self.layers(rows).squeeze(1)


def make_table(rows, columns):
    """A linear relation with noise."""
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, columns, generator=generator)
    weights = torch.randn(columns, generator=generator)
    targets = features @ weights + 0.1 * torch.randn(rows, generator=generator)
    return TensorDataset(features, targets)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rows", type=int, default=12000)
    parser.add_argument("--columns", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=512)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    table = make_table(args.rows, args.columns)
    loader = DataLoader(table, batch_size=args.batch_size, shuffle=True)
    model = Regressor(args.columns, args.hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, fused=True)
    criterion = nn.MSELoss()

    started = time.perf_counter()
    steps = 0
    for rows, targets in loader:
        optimizer.zero_grad()
        loss = criterion(model(rows), targets)
        loss.backward()
        optimizer.step()
        steps += 1
    print(f"loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
