"""Regression with metrics and normalisation statistics in double precision."""

import time

import numpy as np
import torch
from torch import nn


class RunningMean:
    def __init__(self):
        self.total = torch.zeros((), dtype=torch.float64)
        self.count = 0

    def add(self, value):
        self.total += value.detach().double()
        self.count += 1

    def value(self):
        return (self.total / self.count).item()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    raw = np.random.default_rng(0).normal(3.0, 2.0, size=(4096, 192))
    x = torch.from_numpy((raw - raw.mean(0)) / raw.std(0)).float()
    y = x[:, :5].prod(1, keepdim=True).tanh()
    model = nn.Sequential(nn.Linear(192, 700), nn.SiLU(), nn.Linear(700, 700), nn.SiLU())
    model.append(nn.Linear(700, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9, fused=True)
    begin = time.perf_counter()
    for epoch in range(6):
        mean = RunningMean()
        for rows in torch.randperm(len(x)).split(128):
            loss = nn.functional.mse_loss(model(x[rows]), y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            mean.add(loss)
        print(f"epoch {epoch}: {mean.value():.6f}")
    print(f"done in {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
