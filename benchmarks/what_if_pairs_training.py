"""A training that is traced over 24 steps: its items wait or compute, and then its step waits.

python what_if_pairs_training.py TRACE sleep|compute ITEM_MS STEP_MS WORKERS
"""

import sys
import time

import torch
from torch.profiler import ProfilerActivity, profile, schedule
from torch.utils.data import DataLoader, Dataset

path, kind = sys.argv[1:3]
item_ms, step_ms, workers = map(float, sys.argv[3:])
STEPS = 34
torch.set_num_threads(1)


class Items(Dataset):
    """Rows of ones."""

    def __len__(self):
        return 16 * 40

    def __getitem__(self, place):
        if kind == "sleep":
            time.sleep(item_ms / 1e3)
        else:
            end = time.thread_time() + item_ms / 1e3
            while time.thread_time() < end:
                sum(range(500))
        return torch.ones(256), place % 10


model = torch.nn.Sequential(torch.nn.Linear(256, 64), torch.nn.ReLU(), torch.nn.Linear(64, 10))
optimizer = torch.optim.SGD(model.parameters(), 0.01)
loader = DataLoader(Items(), 16, num_workers=int(workers))
with profile(
    activities=[ProfilerActivity.CPU],
    schedule=schedule(wait=8, warmup=2, active=24, repeat=1),
    on_trace_ready=lambda profiler: profiler.export_chrome_trace(path),
) as profiler:
    for step, (batch, target) in enumerate(loader, start=1):
        optimizer.zero_grad()
        torch.nn.functional.cross_entropy(model(batch), target).backward()
        optimizer.step()
        time.sleep(step_ms / 1e3)  # a device that the host waits for
        profiler.step()
        if step == STEPS:
            break
