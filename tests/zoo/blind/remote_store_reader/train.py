"""Train a small regressor on records that live in a bucket mounted over the network."""

import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
torch.set_num_threads(1)


class BucketRecords(Dataset):
    """Every record is one ranged GET; the stand-in for the network answers after 1.2 ms."""

    def __init__(self, n):
        self.rows = np.random.default_rng(0).standard_normal((n, 256), dtype=np.float32)

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        time.sleep(0.0012)
        row = torch.from_numpy(self.rows[i])
        return row, row[:8].sum()


def main():
    dataset = BucketRecords(1600)
    loader = DataLoader(dataset, batch_size=16, shuffle=True, num_workers=0)
    model = nn.Sequential(
        nn.Linear(256, 1024), nn.GELU(), nn.Linear(1024, 1024), nn.GELU(), nn.Linear(1024, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    start = time.perf_counter()
    for epoch in range(2):
        total = 0.0
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x).squeeze(1), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch} loss {total / len(loader):.4f}")
    print(f"finished in {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
