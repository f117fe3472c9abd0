"""Truncated backpropagation through time: ten updates on each long sequence of the loader."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(32, 51, 4))
cell, head = nn.GRU(4, 16, batch_first=True), nn.Linear(16, 4)
optimizer = torch.optim.Adam([*cell.parameters(), *head.parameters()], lr=0.01)

for (sequences,) in DataLoader(data, batch_size=8):
    state = torch.zeros(1, 8, 16)
    for start in range(0, 50, 5):
        outputs, state = cell(sequences[:, start : start + 5], state.detach())
        loss = nn.functional.mse_loss(head(outputs), sequences[:, start + 1 : start + 6])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 32}))
