"""A contrastive loss of plain tensor operations, outside any module, that takes its time."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
loader = DataLoader(TensorDataset(torch.randn(1280, 8)), batch_size=64, shuffle=True)
model = nn.Linear(8, 16)
optimizer = torch.optim.SGD(model.parameters(), lr=0.05)

for _ in range(2):
    for (rows,) in loader:
        optimizer.zero_grad()
        codes = model(rows)
        distances = (codes[:, None] - codes[None]).pow(2).sum(dim=2)
        logits = -distances.masked_fill(torch.eye(64, dtype=torch.bool), float("inf"))
        loss = -logits.roll(1, 0).log_softmax(dim=1).clamp(min=-50).mean()
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

expected = {"steps": 40, "training_length": 1280, "present": ["loss"]}
print(json.dumps(expected))
