"""Classify small photographs that lie on a file server."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

ROUND_TRIP_S = 0.0005  # what one read from the file server takes


class PhotoFolder(Dataset):
    """Photographs, one read each."""

    def __init__(self, photos, size):
        generator = torch.Generator().manual_seed(1)
        self.labels = torch.randint(0, 10, (photos,), generator=generator)
        scenes = torch.randn(10, 3, size, size, generator=generator)
        noise = torch.randn(photos, 3, size, size, generator=generator)
        self.pixels = scenes[self.labels] + noise

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        time.sleep(ROUND_TRIP_S)
        return self.pixels[index], self.labels[index]


class SmallConvNet(nn.Module):
    """Three convolutions and a classifier."""

    def __init__(self):
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(3, 20, 3, padding=1),
            nn.ReLU(),
            nn.Conv2d(20, 40, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.Conv2d(40, 48, 3, stride=2, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
        )
        self.classifier = nn.Linear(48, 10)

    def forward(self, images):
        return self.classifier(self.features(images).flatten(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=2)
    parser.add_argument("--photos", type=int, default=2560)
    parser.add_argument("--batch-size", type=int, default=32)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    photos = PhotoFolder(args.photos, size=32)
    loader = DataLoader(
        photos,
        batch_size=args.batch_size,
        shuffle=True,
        num_workers=4,
        persistent_workers=True,
    )
    model = SmallConvNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = criterion(model(images), labels)
            loss.backward()
            optimizer.step()
            steps += 1
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
