"""A study that must be repeatable to the last bit."""

import random

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def fix_seeds(seed):
    random.seed(seed)
    np.random.seed(seed)
    torch.manual_seed(seed)
    torch.use_deterministic_algorithms(True)
    torch.backends.cudnn.benchmark = False


def seed_worker(worker_id):
    np.random.seed(torch.initial_seed() % 2**32)


class Study(nn.Module):
    def __init__(self):
        super().__init__()
        self.encoder = nn.GRU(24, 128, batch_first=True)
        self.head = nn.Linear(128, 3)

    def forward(self, signals):
        _, state = self.encoder(signals)
        return self.head(state[0])


def main():
    fix_seeds(2024)
    torch.set_num_threads(1)
    signals = torch.randn(4000, 20, 24)
    labels = (signals.mean(dim=(1, 2)) * 20).round().clamp(-1, 1).long() + 1
    generator = torch.Generator().manual_seed(2024)
    loader = DataLoader(
        TensorDataset(signals, labels),
        batch_size=32,
        shuffle=True,
        generator=generator,
        worker_init_fn=seed_worker,
    )
    model = Study()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    for epoch in range(2):
        for batch, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(batch), targets)
            loss.backward()
            optimizer.step()
        print(f"{epoch} {loss.item():.10f}")


if __name__ == "__main__":
    main()
