"""Fit a regression with a small Trainer class of one's own."""

import torch
import torch.nn.functional as F
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Regressor(nn.Module):
    """Two wide layers and a head."""

    def __init__(self, inputs, hidden):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(inputs, hidden), nn.GELU(), nn.Linear(hidden, hidden), nn.GELU()
        )
        self.head = nn.Linear(hidden, 1)

    def forward(self, rows):
        return self.head(self.body(rows)).squeeze(-1)


class Trainer:
    """Holds what a training needs, and runs it."""

    def __init__(self, model, loader, lr):
        self.model = model
        self.loader = loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr, momentum=0.9)
        self.history = []

    def train_epoch(self):
        self.model.train()
        total, seen = 0.0, 0
        for rows, targets in self.loader:
            loss = self.train_step(rows, targets)
            total += loss * len(rows)
            seen += len(rows)
        return total / seen

    def train_step(self, rows, targets):
        self.optimizer.zero_grad()
        loss = F.mse_loss(self.model(rows), targets)
        loss.backward()
        self.optimizer.step()
        return loss.item()

    def fit(self, epochs):
        for epoch in range(epochs):
            self.history.append(self.train_epoch())
            print(f"epoch {epoch}: {self.history[-1]:.4f}")


def make_data(rows, inputs):
    generator = torch.Generator().manual_seed(1)
    features = torch.randn(rows, inputs, generator=generator)
    weights = torch.randn(inputs, generator=generator) / inputs**0.5
    noise = 0.3 * torch.randn(rows, generator=generator)
    return TensorDataset(features, torch.tanh(features @ weights) + noise)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(make_data(9600, 96), batch_size=96, shuffle=True)
    Trainer(Regressor(96, hidden=768), loader, lr=0.02).fit(epochs=3)
