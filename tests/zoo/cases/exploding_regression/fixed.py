"""Fit a house-price model on standardised features."""

import torch
from torch import nn

torch.manual_seed(3)
torch.set_num_threads(1)

area = torch.rand(8000, 1) * 300
rooms = torch.randint(1, 9, (8000, 1)).float()
year = torch.randint(1900, 2024, (8000, 1)).float()
features = torch.cat([area, rooms, year], dim=1)
features = (features - features.mean(0)) / features.std(0)
price = 3.2 * area + 11.0 * rooms + 0.4 * (year - 1900) + torch.randn(8000, 1)
price = (price - price.mean()) / price.std()

net = nn.Sequential(nn.Linear(3, 128), nn.ReLU(), nn.Linear(128, 128), nn.ReLU(), nn.Linear(128, 1))
optimizer = torch.optim.SGD(net.parameters(), lr=0.05, momentum=0.9, fused=True)

for epoch in range(4):
    for chosen in torch.randperm(8000).split(64):
        loss = nn.functional.mse_loss(net(features[chosen]), price[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    print("epoch", epoch, "done")
