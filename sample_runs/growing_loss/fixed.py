"""Forecast a load curve with a recurrent network and report the mean loss of the epoch."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Forecaster(nn.Module):
    """A gated recurrent network that predicts the next value of each sequence."""

    def __init__(self, columns, hidden):
        super().__init__()
        self.recurrent = nn.GRU(columns, hidden, batch_first=True)
        self.head = nn.Linear(hidden, columns)

    def forward(self, sequences):
        states, _ = self.recurrent(sequences)
        return self.head(states)


def make_curves(curves, length, columns):
    """Sine waves of random phase with noise."""
    generator = torch.Generator().manual_seed(1)
    hours = torch.arange(length + 1).view(1, -1, 1) / 4
    phases = 6.3 * torch.rand(curves, 1, columns, generator=generator)
    noise = 0.1 * torch.randn(curves, length + 1, columns, generator=generator)
    return TensorDataset(torch.sin(hours + phases) + noise)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=1)
    parser.add_argument("--curves", type=int, default=9600)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = make_curves(args.curves, length=24, columns=8)
    loader = DataLoader(data, batch_size=args.batch_size, shuffle=True)
    model = Forecaster(8, hidden=64)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)
    criterion = nn.MSELoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        total_loss = 0.0
        for (curves,) in loader:
            optimizer.zero_grad()
            loss = criterion(model(curves[:, :-1]), curves[:, 1:])
            loss.backward()
            optimizer.step()
            total_loss += loss.item()
            steps += 1
        print(f"epoch {epoch}: mean loss {total_loss / len(loader):.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
