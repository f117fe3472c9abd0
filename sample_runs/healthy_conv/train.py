"""Segment blobs with a convolutional network: gradient accumulation, validation per epoch."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset, random_split


class Segmenter(nn.Module):
    """Convolutions that keep the size of the image."""

    def __init__(self, channels):
        super().__init__()
        self.layers = nn.Sequential(
            nn.Conv2d(1, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, channels, 3, padding=1, bias=False),
            nn.BatchNorm2d(channels),
            nn.ReLU(),
            nn.Conv2d(channels, 1, 1),
        )

    def forward(self, images):
        return self.layers(images)


def make_blobs(images, size):
    """One bright disc per image, and its mask."""
    generator = torch.Generator().manual_seed(1)
    y, x = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
    centres = torch.randint(0, size, (images, 2, 1, 1), generator=generator)
    masks = ((y - centres[:, 0]) ** 2 + (x - centres[:, 1]) ** 2 < 30).float().unsqueeze(1)
    return TensorDataset(masks + 0.5 * torch.randn(masks.shape, generator=generator), masks)


def train(model, loader, optimizer, criterion, accumulate):
    """One epoch; the weights change after every `accumulate` batches."""
    model.train()
    total = 0.0
    for number, (images, masks) in enumerate(loader, start=1):
        loss = criterion(model(images), masks)
        (loss / accumulate).backward()
        total += loss.item()
        if number % accumulate == 0:
            optimizer.step()
            optimizer.zero_grad()
    return total / len(loader)


@torch.no_grad()
def validate(model, loader, criterion):
    """The mean loss over the loader."""
    model.eval()
    return sum(criterion(model(images), masks).item() for images, masks in loader) / len(loader)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--images", type=int, default=2000)
    parser.add_argument("--accumulate", type=int, default=4)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    blobs = make_blobs(args.images, size=32)
    training, validation = random_split(blobs, [0.96, 0.04])
    training_loader = DataLoader(training, batch_size=8, shuffle=True, drop_last=True)
    validation_loader = DataLoader(validation, batch_size=16)
    model = Segmenter(channels=24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-3, fused=True)
    criterion = nn.BCEWithLogitsLoss()

    started = time.perf_counter()
    for epoch in range(args.epochs):
        training_loss = train(model, training_loader, optimizer, criterion, args.accumulate)
        validation_loss = validate(model, validation_loader, criterion)
        print(f"epoch {epoch}: training {training_loss:.4f}, validation {validation_loss:.4f}")
    steps = args.epochs * (len(training_loader) // args.accumulate)
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
