"""A training whose loader is known: what an item waits and computes, what a step waits or computes.

Prints its own seconds per step, the first ones left out, as one JSON object.
"""

import argparse
import json
import random
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

BATCH = 16


class Items(Dataset):
    """Items that wait (for a disk, a server) and compute (decode, augment) for a set time."""

    def __init__(self, count: int, wait_s: float, compute_s: float, jitter: bool) -> None:
        draw = random.Random(0)
        self.waits = [draw.expovariate(1) * wait_s if jitter else wait_s for _ in range(count)]
        self.compute_s = compute_s

    def __len__(self) -> int:
        return len(self.waits)

    def __getitem__(self, index: int) -> torch.Tensor:
        if self.waits[index]:
            time.sleep(self.waits[index])
        until = time.thread_time() + self.compute_s
        while time.thread_time() < until:
            pass
        return torch.full((64,), float(index % 7))


class Device(nn.Module):
    """Waits as for a device, beside a little arithmetic of the host."""

    def __init__(self, wait_s: float, compute_s: float) -> None:
        super().__init__()
        self.layer = nn.Linear(64, 1)
        self.wait_s, self.compute_s = wait_s, compute_s

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        time.sleep(self.wait_s)
        until = time.thread_time() + self.compute_s
        while time.thread_time() < until:
            pass
        return self.layer(x)


def parse(arguments: list[str] | None = None) -> argparse.Namespace:
    """The times of items and steps, in ms."""
    parser = argparse.ArgumentParser(description=__doc__)
    for name in ("item-wait", "item-compute", "step-wait", "step-compute"):
        parser.add_argument(f"--{name}-ms", type=float, default=0.0)
    parser.add_argument("--jitter", action="store_true")
    parser.add_argument("--workers", type=int, default=0)
    parser.add_argument("--steps", type=int, default=120)
    return parser.parse_args(arguments)


def train(args: argparse.Namespace) -> float:
    """Seconds per step, the first ones left out."""
    torch.manual_seed(0)
    torch.set_num_threads(1)
    items = Items(
        BATCH * args.steps, args.item_wait_ms / 1e3, args.item_compute_ms / 1e3, args.jitter
    )
    keep = {"persistent_workers": True} if args.workers else {}
    loader = DataLoader(items, batch_size=BATCH, num_workers=args.workers, **keep)
    model = Device(args.step_wait_ms / 1e3, args.step_compute_ms / 1e3)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    skipped = max(4 * args.workers, 10)
    started = time.perf_counter()
    for step, batch in enumerate(loader):
        if step == skipped:
            started = time.perf_counter()
        optimizer.zero_grad()
        model(batch).square().mean().backward()
        optimizer.step()
    return (time.perf_counter() - started) / (args.steps - skipped)


if __name__ == "__main__":
    print(json.dumps({"step_s": train(parse())}))
