"""Validation in the middle of an epoch (every seven batches) and at its end.

`--mode` says how gradients are kept out: "no_grad", "inference_mode", or "eval", which only
switches the model and builds graphs that nobody uses.
"""

import argparse
import contextlib
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--mode", choices=["no_grad", "inference_mode", "eval"], default="no_grad")
mode = parser.parse_args().mode
without_gradients = {
    "no_grad": torch.no_grad,
    "inference_mode": torch.inference_mode,
    "eval": contextlib.nullcontext,
}[mode]

torch.manual_seed(0)
torch.set_num_threads(1)
training = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
validation = TensorDataset(torch.randn(48, 8), torch.randn(48, 1))
training_loader = DataLoader(training, batch_size=8, shuffle=True)
validation_loader = DataLoader(validation, batch_size=16)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Dropout(0.1), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = nn.MSELoss()


def validate():
    model.eval()
    with without_gradients():
        total = sum(
            criterion(model(inputs), targets).item() for inputs, targets in validation_loader
        )
    model.train()
    print("validation", repr(total))


for _ in range(2):
    for number, (inputs, targets) in enumerate(training_loader, start=1):
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
        if number % 7 == 0:
            validate()
    validate()

expected = {
    "steps": 40,
    "training_length": 160,
    "validation_length": 48,
    "validation_in": [6, 13, 26, 33],
    "validation_before": [20],
}
print(json.dumps(expected))
