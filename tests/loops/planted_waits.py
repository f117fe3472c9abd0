"""Stamps whole phases from the outside: waiting for workers, nested models, gc, clipping.

The stamps, one dictionary of seconds by phase per step, go to the file `--stamps`.
"""

import argparse
import gc
import json
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

STEPS = 60


class SlowData(Dataset):
    """Reading one sample waits 6 ms."""

    def __len__(self):
        return 4 * STEPS

    def __getitem__(self, index):
        time.sleep(0.006)
        generator = torch.Generator().manual_seed(index)
        return torch.randn(16, generator=generator), torch.randn(1, generator=generator)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--stamps", type=Path, required=True)
    path = parser.parse_args().stamps

    torch.manual_seed(0)
    torch.set_num_threads(1)
    gc.disable()
    encoder = nn.Sequential(nn.Linear(16, 512), nn.ReLU(), nn.Linear(512, 512))
    head = nn.Linear(512, 1)
    parameters = [*encoder.parameters(), *head.parameters()]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)
    stamps = []

    iterator = iter(DataLoader(SlowData(), batch_size=4, num_workers=2))
    for step in range(STEPS):
        taken = {}
        clock = time.perf_counter
        started = clock()
        rows, targets = next(iterator)
        taken["data_wait"] = clock() - started
        started = clock()
        outputs = head(encoder(rows))
        taken["forward"] = clock() - started
        started = clock()
        loss = nn.functional.mse_loss(outputs, targets)
        taken["loss"] = clock() - started
        started = clock()
        loss.backward()
        taken["backward"] = clock() - started
        started = clock()
        nn.utils.clip_grad_norm_(parameters, 1.0)
        optimizer.step()
        optimizer.zero_grad()
        taken["optimizer"] = clock() - started
        if step % 10 == 5:
            started = clock()
            gc.collect()
            taken["gc"] = clock() - started
        stamps.append(taken)

    path.write_text(json.dumps(stamps))
    print(json.dumps({"steps": STEPS}))


if __name__ == "__main__":
    main()
