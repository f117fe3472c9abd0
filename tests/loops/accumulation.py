"""Gradient accumulation over four batches; an epoch of 18 batches leaves two over.

`--rest` says what becomes of the two: "drop" forgets their gradients, "carry" keeps them for the
next epoch, "step" makes a smaller update of them.
"""

import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

parser = argparse.ArgumentParser()
parser.add_argument("--rest", choices=["drop", "carry", "step"], default="drop")
rest = parser.parse_args().rest

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(144, 8), torch.randn(144, 1))
loader = DataLoader(data, batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=0.01)

for _ in range(3):
    if rest == "drop":
        optimizer.zero_grad()
    for number, (inputs, targets) in enumerate(loader, start=1):
        loss = nn.functional.mse_loss(model(inputs), targets)
        (loss / 4).backward()
        print(repr(loss.item()))
        if number % 4 == 0 or (rest == "step" and number == len(loader)):
            optimizer.step()
            optimizer.zero_grad()

if rest == "step":
    expected = {"steps": 15, "micro_batches": [4, 4, 4, 4, 2] * 3}
else:
    expected = {"steps": 12, "partial": 3, "micro_batches": 4}
print(json.dumps({**expected, "training_length": 144}))
