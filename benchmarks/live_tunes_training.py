"""A training of about 5 ms a step with a planted cost, for live_tunes.py."""

import argparse
import json
import time

import planted
import torch
from torch import nn


def main():
    """Trains, and prints how long a step takes."""
    parser = argparse.ArgumentParser()
    parser.add_argument("--steps", type=int, default=1000)
    parser.add_argument("--batch", type=int, default=160)
    parser.add_argument("--spin-ms", type=float, default=0.0)
    options = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model = nn.Sequential(
        nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=1e-3)
    rows, classes = torch.randn(4096, 256), torch.randint(0, 10, (4096,))
    walls = []
    for step in range(options.steps):
        started = time.perf_counter()
        chosen = torch.arange(step * options.batch, (step + 1) * options.batch) % len(rows)
        planted.spin(options.spin_ms)
        optimizer.zero_grad()
        loss = nn.functional.cross_entropy(model(rows[chosen]), classes[chosen])
        loss.backward()
        optimizer.step()
        walls.append(time.perf_counter() - started)
    print(json.dumps({"step_s": sorted(walls)[len(walls) // 50]}))


if __name__ == "__main__":
    main()
