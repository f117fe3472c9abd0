"""Rows come slowly, and in double precision; the model was cast to match."""

import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Measurements(Dataset):
    def __init__(self, count):
        self.table = np.random.default_rng(0).standard_normal((count, 65))
        self.wait_s = 0.0
        self.waited_s = 0.0

    def __len__(self):
        return len(self.table)

    def __getitem__(self, index):
        started = time.perf_counter()
        time.sleep(self.wait_s)
        self.waited_s += time.perf_counter() - started
        return self.table[index, :64], self.table[index, 64:]


class Model(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(64, 800), nn.ReLU(), nn.Linear(800, 800), nn.ReLU(), nn.Linear(800, 1)
        )

    def forward(self, rows):
        return self.net(rows)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = Measurements(6400)
    loader = DataLoader(data, batch_size=32, shuffle=True)
    model = Model().double()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    started = time.perf_counter()
    for rows, targets in loader:
        loss = nn.functional.mse_loss(model(rows), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rest_s = time.perf_counter() - started - data.waited_s
        data.wait_s = max(1.2 * rest_s - data.waited_s, 0.0) / 32
    total_s = time.perf_counter() - started
    print(f"loss {loss.item():.4f}; reads {data.waited_s:.2f} of {total_s:.2f} s")
    print(f"planted share {data.waited_s / total_s:.4f}")


if __name__ == "__main__":
    main()
