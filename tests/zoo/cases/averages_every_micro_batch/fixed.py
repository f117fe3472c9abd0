"""Language-model-like training with gradient accumulation under DDP (start with torchrun)."""

import argparse
import contextlib

import torch
import torch.distributed as dist
import torch.nn.functional as F
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


class Model(nn.Module):
    def __init__(self, vocabulary=6_000, width=128):
        super().__init__()
        self.embed = nn.Embedding(vocabulary, width)
        self.body = nn.Sequential(nn.Linear(width, 512), nn.GELU(), nn.Linear(512, width))
        self.out = nn.Linear(width, 64)

    def forward(self, tokens):
        return self.out(self.body(self.embed(tokens)).mean(dim=1))


parser = argparse.ArgumentParser()
parser.add_argument("--updates", type=int, default=50)
parser.add_argument("--accumulate", type=int, default=8)
args = parser.parse_args()

torch.set_num_threads(1)
dist.init_process_group("gloo")
torch.manual_seed(0)
samples = 4 * args.accumulate * args.updates * dist.get_world_size()
data = TensorDataset(torch.randint(0, 6_000, (samples, 64)), torch.randint(0, 64, (samples,)))
sampler = DistributedSampler(data, shuffle=True)
loader = DataLoader(data, batch_size=4, sampler=sampler)
model = DistributedDataParallel(Model())
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)

for index, (tokens, labels) in enumerate(loader):
    last = (index + 1) % args.accumulate == 0
    with contextlib.nullcontext() if last else model.no_sync():
        loss = F.cross_entropy(model(tokens), labels) / args.accumulate
        loss.backward()
    if last:
        optimizer.step()
        optimizer.zero_grad()
        if dist.get_rank() == 0 and (index + 1) % (10 * args.accumulate) == 0:
            print(index + 1, f"{loss.item() * args.accumulate:.3f}")
dist.destroy_process_group()
