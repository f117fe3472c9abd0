"""LBFGS: forward and backward run inside `optimizer.step(closure)`.

`--data loader` draws batches; "whole" uses the whole set at each step.
"""

import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--data", choices=["loader", "whole"], default="whole")
with_loader = parser.parse_args().data == "loader"

torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(90, 8), torch.randn(90, 1)
model = nn.Sequential(nn.Linear(8, 16), nn.Tanh(), nn.Linear(16, 1))
optimizer = torch.optim.LBFGS(model.parameters(), lr=0.1, max_iter=4)


def step(rows, wanted):
    def closure():
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(rows), wanted)
        loss.backward()
        return loss

    print(repr(optimizer.step(closure).item()))


if with_loader:
    for batch in DataLoader(TensorDataset(inputs, targets), batch_size=3):
        step(*batch)
else:
    for _ in range(30):
        step(inputs, targets)

print(json.dumps({"steps": 30, "training_length": 90 if with_loader else None}))
