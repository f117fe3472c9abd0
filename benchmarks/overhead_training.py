"""The training that `overhead.py` times: fixed steps, one thread, nothing but compute.

Prints one JSON object: seconds and CPU seconds of the timed steps (the whole process counts,
trainprof's thread included), the CPU seconds of the training thread in each block of steps and of
all other threads together, and when the first step began, as seconds of the monotonic clock.
"""

from __future__ import annotations

import argparse
import itertools
import json
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Block(nn.Module):
    """Linear, activation and norm: three submodule calls and its own."""

    def __init__(self, width: int) -> None:
        super().__init__()
        self.linear = nn.Linear(width, width)
        self.activation = nn.ReLU()
        self.norm = nn.LayerNorm(width)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.norm(self.activation(self.linear(x)))


class Network(nn.Module):
    """A chain of blocks."""

    def __init__(self, blocks: int, width: int) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(Block(width) for _ in range(blocks))
        self.head = nn.Linear(width, 1)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x)
        return self.head(x)


SIZES = {
    "tiny-1ms": (2, 192, 96),
    "wide-20ms": (3, 512, 256),
    "deep-20ms": (64, 96, 128),
}
"""blocks, width, batch size"""


def main() -> None:
    """Trains and prints the timings."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--size", choices=SIZES, default="tiny-1ms")
    parser.add_argument("--steps", type=int, default=500)
    parser.add_argument("--warm-up", type=int, default=400)
    parser.add_argument("--block", type=int, default=50)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    torch.manual_seed(0)
    blocks, width, batch = SIZES[arguments.size]
    model = Network(blocks, width)
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    rows = batch * 8
    data = TensorDataset(torch.randn(rows, width), torch.randn(rows, 1))
    batches = list(DataLoader(data, batch_size=batch))
    loader = DataLoader(_Repeated(batches, arguments.steps + arguments.warm_up), batch_size=None)
    first_step = started = cpu = others = 0.0
    blocks = []
    for step, (x, y) in enumerate(loader):
        if step == 0:
            first_step = time.perf_counter()
        if step == arguments.warm_up:
            started, cpu = time.perf_counter(), time.process_time()
            others = cpu - time.thread_time()
        if step >= arguments.warm_up and (step - arguments.warm_up) % arguments.block == 0:
            blocks.append(time.thread_time())
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(x), y)
        loss.backward()
        optimizer.step()
    ended, cpu_ended = time.perf_counter(), time.process_time()
    blocks.append(time.thread_time())
    result = {
        "wall_s": ended - started,
        "cpu_s": cpu_ended - cpu,
        "blocks_s": [after - before for before, after in itertools.pairwise(blocks)],
        "other_threads_s": cpu_ended - blocks[-1] - others,
        "first_step_s": first_step,
        "ended_s": time.perf_counter(),
        "submodules": sum(1 for _ in model.modules()),
    }
    print(json.dumps(result), flush=True)


class _Repeated(torch.utils.data.Dataset):
    """The same few ready batches, over and over: the loader costs next to nothing."""

    def __init__(self, batches: list, length: int) -> None:
        self._batches = batches
        self._length = length

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, index: int) -> object:
        return self._batches[index % len(self._batches)]


if __name__ == "__main__":
    main()
