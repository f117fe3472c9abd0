import random

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
torch.set_num_threads(1)


class Sensors(Dataset):
    """Readings of a machine, as they come from a JSON file: lists of numbers."""

    def __init__(self, n):
        g = random.Random(0)
        self.rows = [[g.random() for _ in range(512)] for _ in range(n)]

    def __len__(self):
        return len(self.rows)

    def __getitem__(self, i):
        return self.rows[i], i % 10


def collate(samples):
    rows = [row for row, _ in samples]
    labels = [label for _, label in samples]
    return torch.tensor(rows), torch.tensor(labels)


def main():
    loader = DataLoader(Sensors(2048), batch_size=64, shuffle=True, collate_fn=collate)
    model = nn.Sequential(nn.Linear(512, 64), nn.ReLU(), nn.Linear(64, 10))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(15):
        for x, y in loader:
            loss = nn.functional.cross_entropy(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print("loss", loss.item())


if __name__ == "__main__":
    main()
