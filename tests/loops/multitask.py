"""Two tasks in turn: each has a loader, a head and an optimizer; the body is shared."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
body = nn.Sequential(nn.Linear(8, 16), nn.ReLU())
heads = [nn.Linear(16, 1), nn.Linear(16, 1)]
loaders = [
    DataLoader(TensorDataset(torch.randn(rows, 8), torch.randn(rows, 1)), batch_size=8)
    for rows in (160, 320)
]
optimizers = [torch.optim.SGD([*body.parameters(), *head.parameters()], lr=0.01) for head in heads]

for batches in zip(*map(iter, loaders), strict=False):
    for (inputs, targets), head, optimizer in zip(batches, heads, optimizers, strict=True):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(head(body(inputs)), targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

# Both batches are drawn together, so the two updates are one step of the loop.
print(json.dumps({"steps": 20}))
