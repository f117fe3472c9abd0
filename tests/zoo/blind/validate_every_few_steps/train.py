"""Training with frequent validation, plain functions."""

import time

import torch
from torch import nn


def validate(model, x, y, size=256):
    model.eval()
    hits = 0
    with torch.no_grad():
        for xb, yb in zip(x.split(size), y.split(size), strict=True):
            hits += (model(xb).argmax(1) == yb).sum().item()
    model.train()
    return hits / len(x)


def train_step(model, optimizer, x, y):
    loss = nn.functional.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.item()


def main(steps=240, val_every=8):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x_train, x_val = torch.randn(4096, 128), torch.randn(2048, 128)
    weights = torch.randn(128, 5)
    y_train, y_val = (x_train @ weights).argmax(1), (x_val @ weights).argmax(1)
    model = nn.Sequential(nn.Linear(128, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
    model.append(nn.Linear(512, 5))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    start = time.perf_counter()
    for step in range(1, steps + 1):
        rows = torch.randint(len(x_train), (64,))
        loss = train_step(model, optimizer, x_train[rows], y_train[rows])
        if step % val_every == 0:
            accuracy = validate(model, x_val, y_val)
            print(f"step {step} loss {loss:.3f} val accuracy {accuracy:.3f}")
    print(f"total {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
