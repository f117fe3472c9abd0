"""A convolutional network; the profiler of last week's investigation is still there."""

import torch
from torch import nn


def make_model():
    return nn.Sequential(
        nn.Conv2d(3, 16, 3, padding=1),
        nn.GroupNorm(4, 16),
        nn.ReLU(),
        nn.Conv2d(16, 24, 3, stride=2, padding=1),
        nn.GroupNorm(4, 24),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(24, 5),
    )


def train(model, optimizer, steps):
    for step in range(steps):
        pictures = torch.randn(8, 3, 16, 16)
        labels = torch.randint(0, 5, (8,))
        loss = nn.functional.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return loss.item()


def main(steps=300):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = make_model()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    print(f"loss {train(model, optimizer, steps):.4f}")


if __name__ == "__main__":
    main()
