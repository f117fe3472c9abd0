"""Regress a smooth function; remember the weights with the lowest loss."""

import time
from copy import deepcopy

import torch
from torch import nn

torch.manual_seed(11)
torch.set_num_threads(1)

x = torch.rand(4096, 16) * 6
y = torch.sin(x).sum(dim=1, keepdim=True)

layers = [nn.Linear(16, 64), nn.Tanh()]
for _ in range(10):
    layers += [nn.Linear(64, 64), nn.Tanh()]
model = nn.Sequential(*layers, nn.Linear(64, 1))
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

average, best_model, copying = None, None, 0.0
began = time.perf_counter()
for _ in range(600):
    rows = torch.randint(0, len(x), (24,))
    loss = nn.functional.mse_loss(model(x[rows]), y[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    average = loss.item() if average is None else 0.98 * average + 0.02 * loss.item()
    now = time.perf_counter()
    best_model = deepcopy(model)
    copying += time.perf_counter() - now
total = time.perf_counter() - began
print(f"loss {average:.3f}; 600 steps in {total:.2f} s, share of copies {copying / total:.3f}")
