"""Classify small pictures; the augmentation works on whole batches."""

import argparse

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def block(channels_in, channels_out, stride=1):
    return nn.Sequential(
        nn.Conv2d(channels_in, channels_out, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(channels_out),
        nn.ReLU(inplace=True),
    )


def augment(pictures):
    """Flips a random half of the pictures, and shifts all of them by a few pixels."""
    flipped = torch.rand(len(pictures)) < 0.5
    pictures = torch.where(flipped[:, None, None, None], pictures.flip(-1), pictures)
    down, right = torch.randint(-2, 3, (2,)).tolist()
    return pictures.roll((down, right), dims=(2, 3))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--pictures", type=int, default=4096)
    args = parser.parse_args()

    torch.manual_seed(3)
    torch.set_num_threads(1)
    labels = torch.randint(0, 8, (args.pictures,))
    scenes = torch.randn(8, 3, 24, 24)
    pictures = scenes[labels] + 0.8 * torch.randn(args.pictures, 3, 24, 24)
    loader = DataLoader(TensorDataset(pictures, labels), batch_size=32, shuffle=True)

    model = nn.Sequential(
        block(3, 16),
        block(16, 32, stride=2),
        block(32, 48, stride=2),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(48, 8),
    )
    optimizer = torch.optim.SGD(
        model.parameters(), lr=0.05, momentum=0.9, weight_decay=5e-4, nesterov=True
    )
    for epoch in range(args.epochs):
        correct = 0
        for pictures, labels in loader:
            logits = model(augment(pictures))
            loss = nn.functional.cross_entropy(logits, labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            correct += (logits.argmax(1) == labels).sum().item()
        print(f"epoch {epoch}: accuracy {correct / args.pictures:.3f}")


if __name__ == "__main__":
    main()
