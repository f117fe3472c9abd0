"""Accumulates gradients, and is afraid of losing a single update."""

import tempfile
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Keeper:
    """Writes the state of a training into a folder."""

    def __init__(self, folder, every):
        self.folder = Path(folder)
        self.every = every

    def __call__(self, update, model, optimizer):
        if update % self.every == 0:
            state = {"model": model.state_dict(), "optimizer": optimizer.state_dict()}
            torch.save(state, self.folder / f"update-{update % 2}.pt")


class Training:
    def __init__(self, keeper, micro_batches=2):
        self.model = nn.Sequential(
            nn.Linear(100, 1000), nn.Tanh(), nn.Linear(1000, 1000), nn.Tanh(), nn.Linear(1000, 3)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01, momentum=0.9, fused=True)
        self.keeper, self.micro_batches = keeper, micro_batches

    def run(self, loader):
        for number, (rows, labels) in enumerate(loader, start=1):
            loss = nn.functional.cross_entropy(self.model(rows), labels)
            (loss / self.micro_batches).backward()
            if number % self.micro_batches == 0:
                self.optimizer.step()
                self.optimizer.zero_grad()
                self.keeper(number // self.micro_batches, self.model, self.optimizer)
        return loss.item()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = torch.randn(12_800, 100)
    data = TensorDataset(rows, (rows[:, 0] > 0).long() + (rows[:, 1] > 1).long())
    with tempfile.TemporaryDirectory() as folder:
        training = Training(Keeper(folder, every=100))
        print(training.run(DataLoader(data, batch_size=32, shuffle=True)))


if __name__ == "__main__":
    main()
