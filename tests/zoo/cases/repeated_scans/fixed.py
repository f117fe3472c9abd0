"""Scans from two archives the second without what the first holds already."""

import torch
from torch import nn
from torch.utils.data import ConcatDataset, DataLoader, TensorDataset


def archives():
    generator = torch.Generator().manual_seed(17)
    scans = torch.randn(2000, 1, 16, 16, generator=generator)
    labels = torch.randint(0, 3, (2000,), generator=generator)
    first = TensorDataset(scans[:1400], labels[:1400])
    second = TensorDataset(scans[1400:], labels[1400:])
    return first, second


def network():
    return nn.Sequential(
        nn.Conv2d(1, 16, 3, padding=1),
        nn.BatchNorm2d(16),
        nn.ReLU(),
        nn.MaxPool2d(2),
        nn.Conv2d(16, 32, 3, padding=1),
        nn.BatchNorm2d(32),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(2048, 3),
    )


def main():
    torch.manual_seed(17)
    torch.set_num_threads(1)
    scans = ConcatDataset(archives())
    loader = DataLoader(scans, batch_size=32, shuffle=True)
    model = network()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    for epoch in range(4):
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: {loss.item():.4f}")


if __name__ == "__main__":
    main()
