"""Stochastic weight averaging: the statistics of its batch norms come from the training loader."""

import json

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel, update_bn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
loader = DataLoader(data, batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 1))
averaged = AveragedModel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for _ in range(2):
    for inputs, targets in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
    averaged.update_parameters(model)
    update_bn(loader, averaged)
    averaged.eval()
    with torch.no_grad():
        print("validation", repr(averaged(data.tensors[0]).sum().item()))

print(json.dumps({"steps": 40, "training_length": 160, "validation_before": [20]}))
