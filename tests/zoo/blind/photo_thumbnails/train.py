"""Thumbnail classifier that reads camera JPEGs from disk."""

import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from PIL import Image
from torch import nn
from torch.utils.data import DataLoader, Dataset

SIDE = 48


def write_photos(folder, n):
    rng = np.random.default_rng(2)
    for i in range(n):
        coarse = rng.integers(0, 255, (30, 40, 3), dtype=np.uint8)
        photo = Image.fromarray(coarse).resize((1024, 768), Image.BILINEAR)
        photo.save(folder / f"{i:04d}_{i % 3}.jpg", quality=92)


class Photos(Dataset):
    def __init__(self, folder):
        self.files = sorted(folder.glob("*.jpg"))

    def __len__(self):
        return len(self.files)

    def __getitem__(self, i):
        path = self.files[i]
        with Image.open(path) as image:
            image = image.convert("RGB")
            image = image.resize((SIDE, SIDE), Image.NEAREST)
        pixels = torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255
        if torch.rand(()) < 0.5:
            pixels = pixels.flip(2)
        return pixels, int(path.stem[-1])


def network():
    return nn.Sequential(
        nn.Conv2d(3, 16, 5, stride=2, padding=2),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
        nn.Linear(512, 3),
    )


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        write_photos(Path(tmp), 80)
        loader = DataLoader(Photos(Path(tmp)), batch_size=4, shuffle=True)
        net = network()
        optimizer = torch.optim.SGD(net.parameters(), lr=0.05)
        t0 = time.perf_counter()
        for epoch in range(8):
            for images, labels in loader:
                optimizer.zero_grad()
                loss = nn.functional.cross_entropy(net(images), labels)
                loss.backward()
                optimizer.step()
            print(f"epoch {epoch} loss {loss.item():.3f}")
        print(f"elapsed {time.perf_counter() - t0:.2f} s")


if __name__ == "__main__":
    main()
