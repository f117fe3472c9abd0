"""Slow reads, hidden behind the step by two workers."""

import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class RemoteRows(Dataset):
    def __init__(self, n):
        self.rows = np.random.default_rng(0).standard_normal((n, 256), dtype=np.float32)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        time.sleep(0.0005)
        return torch.from_numpy(self.rows[i]), int(i % 7)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(
        RemoteRows(3200),
        batch_size=16,
        shuffle=True,
        num_workers=2,
        prefetch_factor=4,
        persistent_workers=True,
    )
    model = nn.Sequential(nn.Linear(256, 1800), nn.ReLU(), nn.Linear(1800, 1800), nn.ReLU())
    model.append(nn.Linear(1800, 7))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    began = time.perf_counter()
    for x, y in loader:
        for _ in range(2):
            loss = nn.functional.cross_entropy(model(x + 0.1 * torch.randn_like(x)), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"loss {loss.item():.3f}, {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
