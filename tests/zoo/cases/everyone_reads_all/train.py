"""Tabular regression on several processes: torchrun --nproc_per_node=2 train.py"""

import torch
import torch.distributed as dist
from torch import nn
from torch.nn.parallel import DistributedDataParallel
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset


def build_model():
    layers = [nn.Linear(32, 96), nn.ReLU()]
    for _ in range(2):
        layers += [nn.Linear(96, 96), nn.ReLU()]
    return nn.Sequential(*layers, nn.Linear(96, 1))


def run():
    torch.set_num_threads(1)
    dist.init_process_group(backend="gloo")
    torch.manual_seed(42)
    features = torch.randn(25_600, 32)
    target = features[:, :8].prod(dim=1, keepdim=True)
    dataset = TensorDataset(features, target)
    batches = BatchSampler(RandomSampler(dataset), batch_size=128, drop_last=True)
    loader = DataLoader(dataset, sampler=batches, batch_size=None)

    model = DistributedDataParallel(build_model())
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, momentum=0.9)
    for epoch in range(2):
        total = 0.0
        for x, y in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(x), y)
            loss.backward()
            optimizer.step()
            total += loss.detach()
        if dist.get_rank() == 0:
            print(f"epoch {epoch}: {total / len(loader):.4f}")
    dist.destroy_process_group()


if __name__ == "__main__":
    run()
