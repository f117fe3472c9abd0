"""An image classifier that waits for its data.

Run it with `python train.py`, or with `--workers 4` to let four processes prepare the batches.
"""

import argparse
import time
import zlib

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

READ_S = 0.003  # what a read of one small file takes on a network disk; a sleep stands for it
SIDE = 96


class StoredImages(Dataset):
    """Compressed images on a slow disk: every access reads, unpacks and normalises one."""

    def __init__(self, length):
        self.length = length
        generator = torch.Generator().manual_seed(0)
        pixels = torch.randint(0, 16, (8, 3 * SIDE * SIDE), generator=generator)
        self.files = [zlib.compress(bytes(image)) for image in pixels.tolist()]

    def __len__(self):
        return self.length

    def __getitem__(self, index):
        time.sleep(READ_S)
        unpacked = bytearray(zlib.decompress(self.files[index % len(self.files)]))
        image = torch.frombuffer(unpacked, dtype=torch.uint8).view(3, SIDE, SIDE).float()
        return (image - image.mean()) / image.std(), index % 10


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=80)
    arguments = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    convolution = nn.Conv2d(3, 16, 5, stride=2)
    model = nn.Sequential(convolution, nn.ReLU(), nn.Flatten(), nn.Linear(16 * 46 * 46, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.001)
    data = StoredImages(16 * arguments.steps)
    loader = DataLoader(data, batch_size=16, num_workers=arguments.workers)
    for images, labels in loader:
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(images), labels)
        loss.backward()
        optimizer.step()
    print(f"{arguments.steps} steps, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
