"""Reads that take a given share of the step, made by the training process itself."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

BATCH = 16


class Store(Dataset):
    """Samples that arrive after a wait; the loop sets it so that the waits keep their share."""

    def __init__(self, samples):
        generator = torch.Generator().manual_seed(1)
        self.rows = torch.randn(samples, 64, generator=generator)
        self.wait_s = 0.0
        self.waited_s = 0.0

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        started = time.perf_counter()
        if self.wait_s > 0:
            time.sleep(self.wait_s)
        self.waited_s += time.perf_counter() - started
        return self.rows[index]


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=25, help="per cent of the step")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    ratio = args.share / (100 - args.share)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    store = Store(BATCH * args.steps)
    loader = DataLoader(store, batch_size=BATCH, shuffle=True)
    model = nn.Sequential(
        nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 64)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    started = time.perf_counter()
    for rows in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(rows), rows)
        loss.backward()
        optimizer.step()
        rest_s = time.perf_counter() - started - store.waited_s
        store.wait_s = max(ratio * rest_s - store.waited_s, 0.0) / BATCH
    total_s = time.perf_counter() - started
    print(f"loss {loss.item():.4f}, {args.steps} steps in {total_s:.2f} s")
    print(f"planted share {store.waited_s / total_s:.4f}")


if __name__ == "__main__":
    main()
