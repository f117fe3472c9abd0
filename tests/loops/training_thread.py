"""The training runs in a thread; the main thread waits, as under a graphical interface."""

import json
import threading

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def train():
    data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        for inputs, targets in DataLoader(data, batch_size=8):
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            print(repr(loss.item()))


torch.manual_seed(0)
torch.set_num_threads(1)
thread = threading.Thread(target=train)
thread.start()
thread.join()

print(json.dumps({"steps": 40, "training_length": 160}))
