"""A GradScaler that skips the update of every fifth batch, whose loss overflows."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
inputs = torch.randn(160, 8)
inputs[::40] = float("inf")
data = TensorDataset(inputs, torch.randn(160, 1))
model = nn.Linear(8, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
scaler = torch.amp.GradScaler("cpu", init_scale=1024.0)

updates = 0
for _ in range(2):
    for rows, targets in DataLoader(data, batch_size=8):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(rows), targets)
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        before = scaler.get_scale()
        scaler.update()
        updates += scaler.get_scale() >= before
        print(repr(loss.item()), scaler.get_scale())

# A batch whose update was skipped belongs to the next update.
expected = {"steps": updates, "micro_batches": ([2, 1, 1, 1] * 8), "training_length": 160}
print(json.dumps(expected))
