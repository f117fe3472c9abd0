"""Classify feature vectors that lie in memory; the time goes into the model."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Perceptron(nn.Module):
    """A multilayer perceptron with dropout."""

    def __init__(self, inputs, hidden, classes):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(inputs, hidden),
            nn.ReLU(),
            nn.Dropout(0.1),
            nn.Linear(hidden, hidden),
            nn.ReLU(),
            nn.Linear(hidden, classes),
        )

    def forward(self, rows):
        return self.layers(rows)


def make_clusters(rows, inputs, classes):
    """Points around one centre per class."""
    generator = torch.Generator().manual_seed(1)
    labels = torch.randint(0, classes, (rows,), generator=generator)
    centres = torch.randn(classes, inputs, generator=generator)
    return TensorDataset(centres[labels] + torch.randn(rows, inputs, generator=generator), labels)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=12800)
    parser.add_argument("--batch-size", type=int, default=128)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    clusters = make_clusters(args.rows, inputs=128, classes=20)
    loader = DataLoader(clusters, batch_size=args.batch_size, shuffle=True)
    model = Perceptron(128, hidden=1024, classes=20)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
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
