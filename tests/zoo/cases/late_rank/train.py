"""Data parallel training on recordings of different lengths."""

import os

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel as DDP
from torch.utils.data import DataLoader, DistributedSampler, TensorDataset

STEPS = 200


class Reader(TensorDataset):
    """Cleans a recording as it is read; long ones take several passes."""

    def __init__(self, recordings, targets, lengths):
        super().__init__(recordings, targets)
        self.lengths = lengths

    def __getitem__(self, index):
        recording, target = super().__getitem__(index)
        for _ in range(self.lengths[index]):
            recording = (
                recording
                - 0.01 * torch.nn.functional.avg_pool1d(recording[None], 5, stride=1, padding=2)[0]
            )
        return recording, target


def main():
    torch.set_num_threads(1)
    dist.init_process_group("gloo")
    rank, world = dist.get_rank(), dist.get_world_size()
    torch.manual_seed(5)
    count = 8 * STEPS * world
    # The recordings are sorted by length, and every second one is long.
    lengths = [40 if place % world == world - 1 else 1 for place in range(count)]
    data = Reader(torch.randn(count, 128), torch.randn(count, 4), lengths)
    sampler = DistributedSampler(data, shuffle=False)
    loader = DataLoader(data, batch_size=8, sampler=sampler)
    net = nn.Sequential(nn.Linear(128, 64), nn.ReLU(), nn.Linear(64, 4))
    model = DDP(net)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, (recordings, targets) in enumerate(loader):
        loss = nn.functional.mse_loss(model(recordings), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if rank == 0 and step % 60 == 0:
            print(f"{step:4d} {loss.item():.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    assert "RANK" in os.environ, "start me with torchrun --nproc_per_node=2"
    main()
