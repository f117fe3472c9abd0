"""Cross-validation: a new model, optimizer and loader for each fold, in one process."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, Subset, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(120, 8), torch.randn(120, 1))

for fold in range(4):
    held_out = range(30 * fold, 30 * fold + 30)
    rest = [index for index in range(120) if index not in held_out]
    training = DataLoader(Subset(data, rest), batch_size=9, shuffle=True)
    validation = DataLoader(Subset(data, held_out), batch_size=10)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.01)
    for inputs, targets in training:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
    model.eval()
    with torch.no_grad():
        total = sum(nn.functional.mse_loss(model(rows), wanted) for rows, wanted in validation)
    print("fold", fold, repr(total.item()))

print(json.dumps({"steps": 40, "validation_before": [10, 20, 30]}))
