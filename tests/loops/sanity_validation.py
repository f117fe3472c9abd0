"""Validation before the first step, and one that calls a metric after the last batch."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
training = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
validation = TensorDataset(torch.randn(48, 8), torch.randn(48, 1))
training_loader = DataLoader(training, batch_size=8, shuffle=True)
validation_loader = DataLoader(validation, batch_size=16)
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
criterion = nn.MSELoss()


@torch.no_grad()
def validate():
    model.eval()
    outputs = torch.cat([model(inputs) for inputs, _ in validation_loader])
    print("validation", repr(criterion(outputs, validation.tensors[1]).item()))
    model.train()


validate()
for _ in range(2):
    for inputs, targets in training_loader:
        optimizer.zero_grad()
        loss = criterion(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))
    validate()

expected = {
    "steps": 40,
    "training_length": 160,
    "validation_length": 48,
    "validation_before": [0, 20],
}
print(json.dumps(expected))
