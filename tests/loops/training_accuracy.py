"""Accuracy on the training set after each epoch, through the training loader itself."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
inputs = torch.randn(80, 8)
loader = DataLoader(TensorDataset(inputs, (inputs[:, 0] > 0).long()), batch_size=8, shuffle=True)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 2))
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
criterion = nn.CrossEntropyLoss()


def accuracy():
    model.eval()
    right = 0
    with torch.no_grad():
        for rows, labels in loader:
            right += (model(rows).argmax(dim=1) == labels).sum().item()
    model.train()
    return right / 80


for _ in range(4):
    for rows, labels in loader:
        optimizer.zero_grad()
        loss = criterion(model(rows), labels)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
    print("accuracy", repr(accuracy()))

expected = {
    "steps": 40,
    "samples": 8,
    "training_length": 80,
    "validation_before": [10, 20, 30],
}
print(json.dumps(expected))
