"""Samples are read from disk once and kept."""

import tempfile
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class CachedSamples(Dataset):
    """Reads a sample from its file the first time, and remembers it."""

    def __init__(self, folder):
        self.files = sorted(folder.glob("*.npy"))
        self.cache = {}

    def __len__(self):
        return len(self.files)

    def __getitem__(self, index):
        if index not in self.cache:
            self.cache[index] = torch.from_numpy(np.load(self.files[index]))
        sample = self.cache[index]
        return sample[:-1], sample[-1]


def write_samples(folder, count):
    rng = np.random.default_rng(0)
    for index in range(count):
        sample = rng.standard_normal(65, dtype=np.float32)
        sample[-1] = np.tanh(sample[:8].sum())
        np.save(folder / f"{index:05}.npy", sample)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        write_samples(Path(folder), 1280)
        loader = DataLoader(CachedSamples(Path(folder)), batch_size=32, shuffle=True)
        model = nn.Sequential(
            nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1)
        )
        optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
        for epoch in range(8):
            total = 0.0
            for rows, targets in loader:
                optimizer.zero_grad()
                loss = nn.functional.mse_loss(model(rows).squeeze(1), targets)
                loss.backward()
                optimizer.step()
                total += loss.item()
            print(f"epoch {epoch}: {total / len(loader):.4f}")


if __name__ == "__main__":
    main()
