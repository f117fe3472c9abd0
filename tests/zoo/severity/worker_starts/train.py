"""Epochs just so long that starting the worker takes a given share of them."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

BATCH = 16


class Archive(Dataset):
    """Each read takes a tenth of a millisecond: worth a worker of its own."""

    def __init__(self, samples):
        self.rows = torch.randn(samples, 72)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, index):
        time.sleep(0.0001)
        return self.rows[index]


def open_archive(worker_id):
    time.sleep(0.08)


def train_step(model, optimizer, rows):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(rows), rows)
    loss.backward()
    optimizer.step()
    return loss


def step_seconds(model, optimizer):
    """What a step takes here, without the loader."""
    for _ in range(20):
        train_step(model, optimizer, torch.randn(BATCH, 72))
    started = time.perf_counter()
    for _ in range(20):
        train_step(model, optimizer, torch.randn(BATCH, 72))
    return (time.perf_counter() - started) / 20


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=25, help="per cent of the epoch")
    parser.add_argument("--steps", type=int, default=500)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(
        nn.Linear(72, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 72)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    start_s = 0.11  # the archive, the fork, and the first batch
    wished = start_s * (100 / args.share - 1) / step_seconds(model, optimizer)
    epoch_steps = min(max(round(wished), 4), args.steps)
    epochs = max(args.steps // epoch_steps, 2)
    loader = DataLoader(
        Archive(BATCH * epoch_steps), batch_size=BATCH, num_workers=1, worker_init_fn=open_archive
    )
    starts_s = 0.0
    began = time.perf_counter()
    for epoch in range(epochs):
        if epoch == 1:
            began = time.perf_counter()
        asked = time.perf_counter()
        for number, rows in enumerate(loader):
            if number == 0 and epoch > 0:
                starts_s += time.perf_counter() - asked
            loss = train_step(model, optimizer, rows)
    total_s = time.perf_counter() - began
    print(f"loss {loss.item():.4f}, {epochs} epochs of {epoch_steps} steps")
    print(f"planted share {starts_s / total_s:.4f}")


if __name__ == "__main__":
    main()
