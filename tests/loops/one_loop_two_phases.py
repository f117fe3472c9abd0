"""The loop of the transfer learning tutorial: one loop over ("train", "val")."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
sets = {
    "train": TensorDataset(torch.randn(80, 8), torch.randint(0, 3, (80,))),
    "val": TensorDataset(torch.randn(24, 8), torch.randint(0, 3, (24,))),
}
loaders = {name: DataLoader(data, batch_size=8, shuffle=True) for name, data in sets.items()}
model = nn.Sequential(nn.Linear(8, 16), nn.BatchNorm1d(16), nn.ReLU(), nn.Linear(16, 3))
criterion = nn.CrossEntropyLoss()
optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9)
scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=2)

for epoch in range(4):
    for phase in ("train", "val"):
        model.train(phase == "train")
        running_loss = 0.0
        for inputs, labels in loaders[phase]:
            optimizer.zero_grad()
            with torch.set_grad_enabled(phase == "train"):
                loss = criterion(model(inputs), labels)
                if phase == "train":
                    loss.backward()
                    optimizer.step()
            running_loss += loss.item() * inputs.size(0)
            print(repr(loss.item()))
        if phase == "train":
            scheduler.step()
        print(epoch, phase, repr(running_loss / len(sets[phase])))

expected = {
    "steps": 40,
    "training_length": 80,
    "validation_length": 24,
    "validation_before": [10, 20, 30],
}
print(json.dumps(expected))
