"""Patch classifier with random blur and rotation before a random crop."""

import random
import time

import numpy as np
import torch
from PIL import Image, ImageFilter
from torch import nn
from torch.utils.data import DataLoader, Dataset

CROP = 32


class Augment:
    def crop(self, image):
        x = random.randint(40, image.width - CROP - 40)
        y = random.randint(40, image.height - CROP - 40)
        return image.crop((x, y, x + CROP, y + CROP))

    def rotate(self, image):
        return image.rotate(random.uniform(-15, 15), resample=Image.BICUBIC)

    def blur(self, image):
        return image.filter(ImageFilter.GaussianBlur(random.uniform(0.5, 2.5)))

    def __call__(self, image):
        for step in (self.crop, self.blur, self.rotate):
            image = step(image)
        return image


class Frames(Dataset):
    def __init__(self, n, augment):
        rng = np.random.default_rng(1)
        self.frames = [
            Image.fromarray(rng.integers(0, 255, (192, 192, 3), dtype=np.uint8)) for _ in range(n)
        ]
        self.augment = augment

    def __len__(self):
        return len(self.frames)

    def __getitem__(self, i):
        patch = np.asarray(self.augment(self.frames[i]), dtype=np.float32) / 255
        return torch.from_numpy(patch).permute(2, 0, 1), i % 2


class PatchNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.c1 = nn.Conv2d(3, 32, 3, padding=1)
        self.c2 = nn.Conv2d(32, 32, 3, stride=2, padding=1)
        self.fc = nn.Linear(32 * 8 * 8, 2)

    def forward(self, x):
        x = torch.relu(self.c1(x))
        x = nn.functional.max_pool2d(torch.relu(self.c2(x)), 2)
        return self.fc(x.flatten(1))


def main():
    random.seed(0)
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Frames(150, Augment()), batch_size=6, shuffle=True)
    model = PatchNet()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    started = time.perf_counter()
    for epoch in range(6):
        for patches, labels in loader:
            loss = nn.functional.cross_entropy(model(patches), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")
    print(f"finished after {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
