"""A neural additive model of house prices: a small network of its own for each feature."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES, HIDDEN, BATCH = 80, 16, 64


class AdditiveModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.shapes = nn.ModuleList(
            nn.Sequential(
                nn.Linear(1, HIDDEN),
                nn.ReLU(),
                nn.Linear(HIDDEN, HIDDEN),
                nn.ReLU(),
                nn.Linear(HIDDEN, 1),
            )
            for _ in range(FEATURES)
        )
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        parts = [shape(x[:, i : i + 1]) for i, shape in enumerate(self.shapes)]
        return torch.cat(parts, dim=1).sum(dim=1) + self.bias


def main():
    torch.manual_seed(1)
    torch.set_num_threads(1)
    features = torch.rand(3200, FEATURES) * 4 - 2
    prices = features[:, :10].square().sum(dim=1) - features[:, 10:20].abs().sum(dim=1)
    loader = DataLoader(TensorDataset(features, prices), batch_size=BATCH, shuffle=True)
    model = AdditiveModel()
    optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)
    for epoch in range(6):
        for x, y in loader:
            loss = nn.functional.mse_loss(model(x), y)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, round(loss.item(), 3))


if __name__ == "__main__":
    main()
