"""Pictures come from slow storage, and one worker is just fast enough."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Archive(Dataset):
    """Each picture takes a quarter of a millisecond to arrive."""

    def __init__(self, pictures):
        generator = torch.Generator().manual_seed(2)
        self.pictures = torch.randn(pictures, 3, 20, 20, generator=generator)
        self.labels = torch.randint(0, 4, (pictures,), generator=generator)

    def __len__(self):
        return len(self.labels)

    def __getitem__(self, index):
        time.sleep(0.00025)
        return self.pictures[index], self.labels[index]


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(
        Archive(3200), batch_size=16, shuffle=True, num_workers=1, persistent_workers=True
    )
    model = nn.Sequential(
        nn.Conv2d(3, 48, 3, padding=1),
        nn.ReLU(),
        nn.Conv2d(48, 64, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
        nn.Linear(64, 4),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(2):
        for pictures, labels in loader:
            loss = nn.functional.cross_entropy(model(pictures), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, loss.item())


if __name__ == "__main__":
    main()
