"""Classifier that reads its loss and prints now and then."""

import time

import torch
from torch import nn


def accuracy(logits, target):
    return (logits.argmax(1) == target).float().mean().item()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(4096, 256)
    y = (x @ torch.randn(256, 10)).argmax(1)
    model = nn.Sequential(nn.Linear(256, 768), nn.ReLU(), nn.Linear(768, 768), nn.ReLU())
    model.append(nn.Linear(768, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
    losses, scores = [], []
    t0 = time.perf_counter()
    for step in range(200):
        rows = torch.randint(4096, (128,))
        logits = model(x[rows])
        loss = nn.functional.cross_entropy(logits, y[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        scores.append(accuracy(logits, y[rows]))
        if step % 5 == 0:
            print(f"step {step} loss {losses[-1]:.4f} acc {scores[-1]:.3f}", flush=True)
    print(f"elapsed {time.perf_counter() - t0:.2f} s")


if __name__ == "__main__":
    main()
