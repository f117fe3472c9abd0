"""Regress physical quantities; the data comes from numpy."""

import time

import numpy as np
import torch
from torch import nn


def simulate(n, rng):
    x = rng.normal(size=(n, 128))
    y = np.sin(x[:, :8].sum(axis=1, keepdims=True))
    return x, y


class Regressor(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(128, 768), nn.ReLU(), nn.Linear(768, 768), nn.ReLU(), nn.Linear(768, 1)
        )

    def forward(self, x):
        return self.net(x)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = simulate(4096, np.random.default_rng(0))
    x, y = torch.from_numpy(x).float(), torch.from_numpy(y).float()
    model = Regressor().to(x.dtype)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    start = time.perf_counter()
    for epoch in range(6):
        for rows in torch.randperm(len(x)).split(128):
            loss = nn.functional.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.5f}")
    print(f"training took {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
