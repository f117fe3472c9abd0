"""Updates written by hand, without an optimizer.

`--style` is how: "no_grad" subtracts in place, "data" goes through `.data`, "add_" is a method
call. `--data slices` cuts batches out of a tensor instead of using a loader.
"""

import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--style", choices=["no_grad", "data", "add_"], default="no_grad")
parser.add_argument("--data", choices=["loader", "slices"], default="loader")
args = parser.parse_args()

torch.manual_seed(0)
torch.set_num_threads(1)
inputs, targets = torch.randn(160, 8), torch.randn(160, 1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
data = TensorDataset(inputs, targets)
lr = 0.01


def batches():
    if args.data == "loader":
        return DataLoader(data, batch_size=8)
    return [(inputs[i : i + 8], targets[i : i + 8]) for i in range(0, 160, 8)]


def update():
    if args.style == "data":
        for parameter in model.parameters():
            parameter.data -= lr * parameter.grad
            parameter.grad = None
        return
    with torch.no_grad():
        for parameter in model.parameters():
            if args.style == "add_":
                parameter.add_(parameter.grad, alpha=-lr)
            else:
                parameter -= lr * parameter.grad
        model.zero_grad()


for _ in range(2):
    for rows, wanted in batches():
        loss = ((model(rows) - wanted) ** 2).mean()
        loss.backward()
        update()
        print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 160 if args.data == "loader" else None}))
