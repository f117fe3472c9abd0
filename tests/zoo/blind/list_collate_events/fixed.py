"""Sequence classifier over event logs given as Python lists."""

import random
import time

import torch
from torch import nn
from torch.utils.data import DataLoader

EVENTS, LENGTH, FIELDS = 512, 48, 6


def make_events():
    rng = random.Random(0)
    data = []
    for _ in range(EVENTS):
        log = [[rng.random() for _ in range(FIELDS)] for _ in range(LENGTH)]
        data.append((log, int(sum(row[0] for row in log) > LENGTH / 2)))
    return data


def collate(batch):
    x = torch.tensor([log for log, _ in batch])
    y = torch.tensor([label for _, label in batch])
    return x, y


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.mix = nn.Sequential(nn.Linear(LENGTH * FIELDS, 1024), nn.ReLU(), nn.Linear(1024, 512))
        self.head = nn.Linear(512, 2)

    def forward(self, x):
        return self.head(torch.relu(self.mix(x.flatten(1))))


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(make_events(), batch_size=32, shuffle=True, collate_fn=collate)
    net = Net()
    opt = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9)
    t0 = time.perf_counter()
    for epoch in range(10):
        hits = 0
        for x, y in loader:
            logits = net(x)
            loss = nn.functional.cross_entropy(logits, y)
            opt.zero_grad()
            loss.backward()
            opt.step()
            hits += (logits.argmax(1) == y).sum().item()
        print(f"epoch {epoch} accuracy {hits / EVENTS:.3f}")
    print(f"total {time.perf_counter() - t0:.2f} s")
