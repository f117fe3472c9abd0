"""No DataLoader: batches are slices of a tensor in a random order.

`--mode eval` validates without switching gradients off.
"""

import argparse
import contextlib
import json

import torch
from torch import nn

parser = argparse.ArgumentParser()
parser.add_argument("--mode", choices=["no_grad", "eval"], default="no_grad")
without_gradients = {"no_grad": torch.no_grad, "eval": contextlib.nullcontext}[
    parser.parse_args().mode
]

torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(160, 8), torch.randn(160, 1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
criterion = nn.MSELoss()

for epoch in range(2):
    order = torch.randperm(160)
    for start in range(0, 160, 8):
        chosen = order[start : start + 8]
        optimizer.zero_grad()
        loss = criterion(model(inputs[chosen]), targets[chosen])
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
    model.eval()
    with without_gradients():
        print(epoch, repr(criterion(model(inputs), targets).item()))
    model.train()

print(json.dumps({"steps": 40, "training_length": None, "validation_before": [20]}))
