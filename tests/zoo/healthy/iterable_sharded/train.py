"""Train on a stream of records that is divided among the workers."""

import itertools

import torch
from torch import nn
from torch.utils.data import DataLoader, IterableDataset, get_worker_info


class RecordStream(IterableDataset):
    """Records from numbered shards; a worker reads every n-th shard."""

    def __init__(self, shards, records_per_shard, width):
        self.shards = shards
        self.records_per_shard = records_per_shard
        self.width = width

    def __iter__(self):
        info = get_worker_info()
        first, stride = (0, 1) if info is None else (info.id, info.num_workers)
        for shard in itertools.islice(range(self.shards), first, None, stride):
            generator = torch.Generator().manual_seed(shard)
            block = torch.randn(self.records_per_shard, self.width, generator=generator)
            for record in block:
                yield record, record[:8].sum()


class Tower(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(width, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 1)
        )

    def forward(self, records):
        return self.net(records).squeeze(1)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    stream = RecordStream(shards=80, records_per_shard=256, width=64)
    loader = DataLoader(stream, batch_size=128, num_workers=1, prefetch_factor=8)
    model = Tower(64)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for step, (records, targets) in enumerate(loader):
        loss = nn.functional.smooth_l1_loss(model(records), targets)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 40 == 0:
            print(step, loss.item())


if __name__ == "__main__":
    main()
