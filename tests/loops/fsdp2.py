"""FSDP2 on one gloo rank."""

import gc
import json
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.distributed.device_mesh import init_device_mesh
from torch.distributed.fsdp import fully_shard
from torch.utils.data import DataLoader, TensorDataset

for name, value in {"RANK": 0, "WORLD_SIZE": 1, "MASTER_PORT": 29562}.items():
    os.environ.setdefault(name, str(value))
os.environ["MASTER_ADDR"] = "127.0.0.1"
torch.manual_seed(0)
torch.set_num_threads(1)
dist.init_process_group("gloo")
mesh = init_device_mesh("cpu", (1,))
data = TensorDataset(torch.randn(160, 8), torch.randn(160, 1))
model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
for layer in model:
    if isinstance(layer, nn.Linear):
        fully_shard(layer, mesh=mesh)
fully_shard(model, mesh=mesh)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for _ in range(2):
    for inputs, targets in DataLoader(data, batch_size=8, shuffle=True):
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        print(repr(loss.item()))

print(json.dumps({"steps": 40, "training_length": 160}))
# Gloo's thread must end before the interpreter does, or torch 2.13 aborts at times.
del model
gc.collect()
dist.destroy_process_group()
