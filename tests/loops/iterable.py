"""An IterableDataset, in the process itself or sharded over workers."""

import argparse
import json

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class Stream(IterableDataset):
    """Rows from a seeded stream; worker k of n takes every n-th."""

    def __iter__(self):
        worker = get_worker_info()
        first, stride = (worker.id, worker.num_workers) if worker else (0, 1)
        for number in range(first, 160, stride):
            row = torch.randn(8, generator=torch.Generator().manual_seed(number))
            yield row, row.sum()


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--workers", type=int, default=0)
    workers = parser.parse_args().workers

    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Stream(), batch_size=8, num_workers=workers)
    model = nn.Sequential(nn.Linear(8, 16), nn.ReLU(), nn.Linear(16, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(2):
        for rows, targets in loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(rows).squeeze(1), targets)
            loss.backward()
            optimizer.step()
            print(repr(loss.item()))
    print(json.dumps({"steps": 40, "samples": 8, "iterable": True, "workers": workers}))


if __name__ == "__main__":
    main()
