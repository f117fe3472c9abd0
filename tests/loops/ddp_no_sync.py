"""DDP with gradient accumulation: three batches under `no_sync`, the fourth reduces."""

import contextlib
import gc
import json
import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

torch.manual_seed(0)
torch.set_num_threads(1)
dist.init_process_group("gloo")
rank = int(os.environ["RANK"])
data = TensorDataset(torch.randn(640, 8), torch.randn(640, 1))
loader = DataLoader(data, batch_size=8, sampler=DistributedSampler(data))
model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)))
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)

for _ in range(2):
    for number, (inputs, targets) in enumerate(loader, start=1):
        last = number % 4 == 0
        with contextlib.nullcontext() if last else model.no_sync():
            loss = nn.functional.mse_loss(model(inputs), targets)
            (loss / 4).backward()
        if last:
            optimizer.step()
            optimizer.zero_grad()
        if rank == 0:
            print(repr(loss.item()), flush=True)

if rank == 0:
    expected = {"steps": 20, "micro_batches": 4, "ranks": 2, "training_length": 640}
    print(json.dumps(expected), flush=True)
dist.barrier()
# Gloo's thread must end before the interpreter does, or torch 2.13 aborts at times.
del model
gc.collect()
dist.destroy_process_group()
