"""A training in functions; one of them is there to save memory."""

import gc

import torch
import torch.nn.functional as F
from torch import nn


def free_memory():
    gc.collect()


def make_batch(generator, size=64):
    x = torch.randn(size, 3, 16, 16, generator=generator)
    return x, x.mean(dim=(2, 3)).argmax(dim=1)


def update(model, optimizer, x, y):
    loss = F.cross_entropy(model(x), y)
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    return loss.detach()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    generator = torch.Generator().manual_seed(1)
    model = nn.Sequential(
        nn.Conv2d(3, 48, 3, padding=1),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(48, 48, 3, padding=1),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(48 * 64, 3),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in range(150):
        losses.append(update(model, optimizer, *make_batch(generator)))
        free_memory()
        if step % 50 == 49:
            print(step + 1, torch.stack(losses[-50:]).mean().item())


main()
