"""A class keeps the outputs of every step for later."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Experiment:
    def __init__(self):
        self.model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 1000))
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.outputs = []

    def step(self, rows, labels):
        logits = self.model(rows)
        loss = nn.functional.cross_entropy(logits, labels)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.outputs.append(logits)
        return loss.item()


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    data = TensorDataset(torch.randn(40_000, 64), torch.randint(0, 1000, (40_000,)))
    experiment = Experiment()
    for rows, labels in DataLoader(data, batch_size=100, shuffle=True):
        loss = experiment.step(rows, labels)
    print(f"loss {loss:.4f}, {len(experiment.outputs)} outputs kept")


if __name__ == "__main__":
    main()
