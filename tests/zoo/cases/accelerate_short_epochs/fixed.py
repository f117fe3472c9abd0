"""Few samples, many epochs, and workers that read an index when they start."""

import time

import torch
from accelerate import Accelerator
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Scans(Dataset):
    """A scan arrives after a fifth of a millisecond."""

    def __init__(self, count):
        self.scans = torch.randn(count, 1, 24, 24)

    def __len__(self):
        return len(self.scans)

    def __getitem__(self, index):
        time.sleep(0.0002)
        return self.scans[index], int(self.scans[index].sum() > 0)


def read_index(worker_id):
    time.sleep(0.1)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    accelerator = Accelerator(cpu=True)
    loader = DataLoader(
        Scans(192),
        batch_size=16,
        shuffle=True,
        num_workers=2,
        worker_init_fn=read_index,
        persistent_workers=True,
    )
    model = nn.Sequential(
        nn.Conv2d(1, 48, 3),
        nn.ReLU(),
        nn.Conv2d(48, 64, 3, stride=2),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(64 * 100, 2),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    model, optimizer, loader = accelerator.prepare(model, optimizer, loader)
    for epoch in range(16):
        for scans, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(scans), labels)
            accelerator.backward(loss)
            optimizer.step()
    print(f"loss {loss.item():.4f}")


if __name__ == "__main__":
    main()
