"""Train on the rows of a data base, a fresh draw of them in every epoch."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset, RandomSampler

QUERY_S = 0.0004  # what one row takes to come from the data base


class Rows(Dataset):
    """Rows of a data base with the class of each."""

    def __init__(self, rows, columns):
        generator = torch.Generator().manual_seed(1)
        self.values = torch.randn(rows, columns, generator=generator)
        self.classes = (self.values[:, 0] > 0).long()

    def __len__(self):
        return len(self.classes)

    def __getitem__(self, index):
        time.sleep(QUERY_S)
        return self.values[index], self.classes[index]


def make_model(columns, hidden):
    """A multilayer perceptron for two classes."""
    return nn.Sequential(
        nn.Linear(columns, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, hidden),
        nn.GELU(),
        nn.Linear(hidden, 2),
    )


def make_loader(data, rows):
    """Draws `rows` of the data at random."""
    sampler = RandomSampler(data, num_samples=rows)
    return DataLoader(data, batch_size=8, sampler=sampler, num_workers=2)


def train_epoch(model, loader, optimizer, criterion):
    """One pass over the loader; returns the mean loss and the number of steps."""
    total = 0.0
    for values, classes in loader:
        optimizer.zero_grad()
        loss = criterion(model(values), classes)
        loss.backward()
        optimizer.step()
        total += loss.item()
    return total / len(loader), len(loader)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=24)
    parser.add_argument("--rows", type=int, default=4000)
    parser.add_argument("--rows-per-epoch", type=int, default=64)
    parser.add_argument("--hidden", type=int, default=960)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = Rows(args.rows, columns=96)
    model = make_model(96, args.hidden)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, fused=True)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        loader = make_loader(data, args.rows_per_epoch)
        loss, done = train_epoch(model, loader, optimizer, criterion)
        steps += done
        if epoch % 10 == 0:
            print(f"epoch {epoch}: loss {loss:.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
