"""Sound clips from a slow server, fetched by a single worker."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

WORKERS = 4


class Clips(Dataset):
    def __init__(self, count):
        self.seeds = list(range(count))

    def __len__(self):
        return len(self.seeds)

    def __getitem__(self, index):
        time.sleep(0.0012)
        generator = torch.Generator().manual_seed(self.seeds[index])
        return torch.randn(1, 256, generator=generator), index % 3


def run():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(
        Clips(4000), batch_size=16, shuffle=True, num_workers=WORKERS, persistent_workers=True
    )
    model = nn.Sequential(
        nn.Conv1d(1, 64, 9, stride=2),
        nn.ReLU(),
        nn.Conv1d(64, 64, 9, stride=2),
        nn.ReLU(),
        nn.AdaptiveAvgPool1d(4),
        nn.Flatten(),
        nn.Linear(256, 3),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for clips, labels in loader:
        loss = nn.functional.cross_entropy(model(clips), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print(f"loss {loss.item():.3f}")


if __name__ == "__main__":
    run()
