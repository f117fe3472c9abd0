"""Fit a network to sensor records that lie in shards; each new shard takes a while to open."""

import time

import torch
from torch.nn import functional
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(0)
torch.set_num_threads(1)

OPEN_S = 0.05
RECORDS_PER_SHARD = 256


class Sensors(Dataset):
    """Records in shards; the file stays open until another shard is asked for."""

    def __init__(self, records):
        self.readings = torch.randn(records, 128)
        self.shard = None

    def __len__(self):
        return len(self.readings)

    def __getitem__(self, index):
        shard = index // RECORDS_PER_SHARD
        if shard != self.shard:
            time.sleep(OPEN_S)
            self.shard = shard
        return self.readings[index], self.readings[index].sum()


class Net(torch.nn.Module):
    def __init__(self):
        super().__init__()
        self.body = torch.nn.Linear(128, 1800)
        self.neck = torch.nn.Linear(1800, 1000)
        self.head = torch.nn.Linear(1000, 1)

    def forward(self, x):
        return self.head(torch.relu(self.neck(torch.relu(self.body(x))))).squeeze(1)


net = Net()
opt = torch.optim.SGD(net.parameters(), lr=1e-4, fused=True)
loader = DataLoader(Sensors(16 * 450), batch_size=16, num_workers=2)
begin = time.perf_counter()
for x, y in loader:
    loss = functional.mse_loss(net(x), y)
    opt.zero_grad()
    loss.backward()
    opt.step()
print(f"{len(loader)} steps, {time.perf_counter() - begin:.2f} s, loss {loss:.3f}")
