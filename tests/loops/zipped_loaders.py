"""Semi-supervised: a batch with labels and a batch without are drawn together for each step."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
labelled = DataLoader(TensorDataset(torch.randn(160, 8), torch.randn(160, 1)), batch_size=8)
unlabelled = DataLoader(TensorDataset(torch.randn(480, 8)), batch_size=24, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for _ in range(2):
    for (rows, targets), (plain,) in zip(labelled, unlabelled, strict=True):
        optimizer.zero_grad()
        supervised = nn.functional.mse_loss(model(rows), targets)
        consistency = (model(plain) - model(plain + 0.1)).pow(2).mean()
        loss = supervised + consistency
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

print(json.dumps({"steps": 40}))
