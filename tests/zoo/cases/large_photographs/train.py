"""Photographs of 640 pixels for a network that takes 32."""

import argparse
import pathlib

import numpy as np
import torch
from PIL import Image
from torch import nn, optim
from torch.utils import data

SIDE = 32


def write_photographs(folder, count, side):
    folder.mkdir(exist_ok=True)
    rng = np.random.default_rng(5)
    coarse = rng.integers(0, 255, (count, 14, 14, 3), dtype=np.uint8)
    for number, pixels in enumerate(coarse):
        image = Image.fromarray(pixels).resize((side, side), Image.BICUBIC)
        image.save(folder / f"{number:04d}.jpg", quality=92)


class Photographs(data.Dataset):
    def __init__(self, folder):
        self.paths = sorted(folder.glob("*.jpg"))

    def __len__(self):
        return len(self.paths)

    def __getitem__(self, index):
        with Image.open(self.paths[index]) as image:
            small = image.convert("RGB").resize((SIDE, SIDE), Image.BILINEAR)
        pixels = torch.from_numpy(np.array(small)).permute(2, 0, 1)
        if torch.rand(()) < 0.5:
            pixels = pixels.flip(2)
        return pixels.float() / 255, index % 5


def build_model():
    return nn.Sequential(
        nn.Conv2d(3, 64, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(64, 96, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(96, 5),
    )


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--epochs", type=int, default=10)
    parser.add_argument("--side", type=int, default=640)
    args = parser.parse_args()
    torch.manual_seed(5)
    torch.set_num_threads(1)
    folder = pathlib.Path(f"photographs_{args.side}")
    write_photographs(folder, 60, args.side)
    train(folder, args.epochs)


def train(folder, epochs):
    loader = data.DataLoader(Photographs(folder), batch_size=4, shuffle=True)
    model = build_model()
    optimizer = optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
    for epoch in range(epochs):
        for images, labels in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(images), labels)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
