"""Digits with a random elastic distortion, prepared by two workers."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def smooth(field, passes):
    for _ in range(passes):
        field = (field + np.roll(field, 1, 0) + np.roll(field, -1, 0)) / 3
        field = (field + np.roll(field, 1, 1) + np.roll(field, -1, 1)) / 3
    return field


class Elastic:
    """Moves every pixel a little, neighbours alike, by one of a few fields made beforehand."""

    def __init__(self, passes):
        fields = np.random.uniform(-3, 3, (16, 2, 40, 40))
        self.moves = [[smooth(field, passes) for field in pair] for pair in fields]

    def __call__(self, image):
        moves = self.moves[np.random.randint(len(self.moves))]
        rows, columns = np.indices(image.shape)
        rows = np.clip(np.rint(rows + moves[0]), 0, image.shape[0] - 1).astype(int)
        columns = np.clip(np.rint(columns + moves[1]), 0, image.shape[1] - 1).astype(int)
        return image[rows, columns]


class Flip:
    def __call__(self, image):
        return image[:, ::-1] if np.random.rand() < 0.5 else image


class Compose:
    def __init__(self, transforms):
        self.transforms = transforms

    def __call__(self, image):
        for transform in self.transforms:
            image = transform(image)
        return image


class Digits(Dataset):
    def __init__(self, count, transform):
        rng = np.random.default_rng(8)
        self.images = rng.random((count, 40, 40), dtype=np.float32)
        self.labels = rng.integers(0, 10, count)
        self.transform = transform

    def __len__(self):
        return len(self.images)

    def __getitem__(self, index):
        image = self.transform(self.images[index])
        return np.ascontiguousarray(image, dtype=np.float32), self.labels[index]


def main():
    torch.manual_seed(8)
    torch.set_num_threads(1)
    transform = Compose([Flip(), Elastic(passes=24)])
    dataset = Digits(800, transform)
    loader = DataLoader(dataset, batch_size=8, shuffle=True, num_workers=2, persistent_workers=True)
    model = nn.Sequential(nn.Flatten(), nn.Linear(1600, 1536), nn.ReLU(), nn.Linear(1536, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(2):
        for images, labels in loader:
            loss = nn.functional.cross_entropy(model(images), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, f"{loss.item():.3f}")


if __name__ == "__main__":
    main()
