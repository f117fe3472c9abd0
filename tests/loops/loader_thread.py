"""A thread of the script's own iterates the loader; the loop takes batches from a queue."""

import json
import queue
import threading

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
batches = queue.Queue(maxsize=4)


def produce():
    for _ in range(2):
        for batch in DataLoader(data, batch_size=8):
            batches.put(batch)
    batches.put(None)


threading.Thread(target=produce).start()
while (batch := batches.get()) is not None:
    inputs, targets = batch
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(inputs), targets)
    loss.backward()
    optimizer.step()
    print(repr(loss.item()))

print(json.dumps({"steps": 40}))
