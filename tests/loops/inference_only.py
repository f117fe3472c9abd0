"""No training at all: a model is only applied."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)).eval()
with torch.inference_mode():
    for (rows,) in DataLoader(TensorDataset(torch.randn(160, 8)), batch_size=8):
        print(repr(model(rows).sum().item()))

print(json.dumps({"steps": 0}))
