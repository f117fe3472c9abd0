"""DistributedDataParallel on two gloo ranks, started by torchrun or by `mp.spawn`."""

import argparse
import gc
import json
import os

import torch
import torch.distributed as dist
import torch.multiprocessing as mp
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset


def train(rank, world_size):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    data = TensorDataset(torch.randn(240, 8), torch.randn(240, 1))
    sampler = DistributedSampler(data)
    loader = DataLoader(data, batch_size=8, sampler=sampler)
    model = DistributedDataParallel(nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1)))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for epoch in range(2):
        sampler.set_epoch(epoch)
        for inputs, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(inputs), targets)
            loss.backward()
            optimizer.step()
            mean = loss.detach().clone()
            dist.all_reduce(mean)
            if rank == 0:
                print(repr((mean / world_size).item()), flush=True)
    if rank == 0:
        expected = {"steps": 30, "ranks": world_size, "training_length": 240}
        print(json.dumps(expected), flush=True)
    dist.barrier()
    # Gloo's thread must end before the interpreter does, or torch 2.13 aborts at times.
    del model
    gc.collect()
    dist.destroy_process_group()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--spawn", type=int, metavar="RANKS")
    ranks = parser.parse_args().spawn
    if ranks is None:  # torchrun says who we are
        train(int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"]))
    else:
        os.environ.setdefault("MASTER_ADDR", "127.0.0.1")
        os.environ.setdefault("MASTER_PORT", "29561")
        mp.spawn(train, args=(ranks,), nprocs=ranks)


if __name__ == "__main__":
    main()
