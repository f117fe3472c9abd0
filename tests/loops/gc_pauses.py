"""Garbage collections by hand inside every tenth forward; automatic ones are off."""

import gc
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Collecting(nn.Module):
    """Collects garbage in its forward, as a careful person might."""

    calls = 0

    def forward(self, hidden):
        Collecting.calls += 1
        if Collecting.calls % 10 == 4:
            gc.collect()
        return hidden


gc.disable()
torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
model = nn.Sequential(nn.Linear(8, 16), Collecting(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for _ in range(2):
    for inputs, targets in DataLoader(data, batch_size=8, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 160, "gc_in": [3, 13, 23, 33]}))
