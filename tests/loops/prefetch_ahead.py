"""The next batch is fetched before the current one is trained on, as prefetchers do."""

import json

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Prefetcher:
    """Holds one batch in advance."""

    def __init__(self, loader):
        self.iterator = iter(loader)
        self.ahead = next(self.iterator, None)

    def next(self):
        batch, self.ahead = self.ahead, next(self.iterator, None)
        return batch


torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for _ in range(2):
    prefetcher = Prefetcher(DataLoader(data, batch_size=8))
    while (batch := prefetcher.next()) is not None:
        inputs, targets = batch
        loss = nn.functional.mse_loss(model(inputs), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 160}))
