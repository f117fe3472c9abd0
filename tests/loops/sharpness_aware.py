"""Sharpness-aware minimisation: each update perturbs the weights, and runs the model twice.

`--data slices` does without a loader.
"""

import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--data", choices=["loader", "slices"], default="loader")
with_loader = parser.parse_args().data == "loader"

torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(160, 8), torch.randn(160, 1)
data = TensorDataset(inputs, targets)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)


def batches():
    if with_loader:
        return DataLoader(data, batch_size=8)
    return [(inputs[i : i + 8], targets[i : i + 8]) for i in range(0, 160, 8)]


for _ in range(2):
    for rows, wanted in batches():
        loss = nn.functional.mse_loss(model(rows), wanted)
        loss.backward()
        with torch.no_grad():
            norm = torch.stack([p.grad.norm() for p in model.parameters()]).norm()
            shifts = [0.05 * p.grad / norm for p in model.parameters()]
            for parameter, shift in zip(model.parameters(), shifts, strict=True):
                parameter.add_(shift)
        optimizer.zero_grad()
        nn.functional.mse_loss(model(rows), wanted).backward()
        with torch.no_grad():
            for parameter, shift in zip(model.parameters(), shifts, strict=True):
                parameter.sub_(shift)
        optimizer.step()
        optimizer.zero_grad()
        print(repr(loss.item()))

expected = {"steps": 40, "training_length": 160 if with_loader else None}
if not with_loader:
    expected["micro_batches"] = 2
print(json.dumps(expected))
