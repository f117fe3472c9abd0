"""A neural additive model of house prices: a small network of its own for each feature."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

FEATURES, HIDDEN, BATCH = 80, 16, 64


class PerFeature(nn.Module):
    """A linear layer for each feature, all of them at once."""

    def __init__(self, inputs, outputs):
        super().__init__()
        bound = inputs**-0.5
        self.weight = nn.Parameter(torch.empty(FEATURES, inputs, outputs).uniform_(-bound, bound))
        self.bias = nn.Parameter(torch.empty(FEATURES, 1, outputs).uniform_(-bound, bound))

    def forward(self, x):
        return torch.baddbmm(self.bias, x, self.weight)


class AdditiveModel(nn.Module):
    def __init__(self):
        super().__init__()
        self.shapes = nn.Sequential(
            PerFeature(1, HIDDEN),
            nn.ReLU(),
            PerFeature(HIDDEN, HIDDEN),
            nn.ReLU(),
            PerFeature(HIDDEN, 1),
        )
        self.bias = nn.Parameter(torch.zeros(1))

    def forward(self, x):
        return self.shapes(x.t().unsqueeze(-1)).sum(dim=(0, 2)) + self.bias


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
