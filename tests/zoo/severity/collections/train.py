"""Full collections, as often as makes a given share of the step."""

import argparse
import gc
import time

import torch
from torch import nn


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=25, help="per cent of the step")
    parser.add_argument("--steps", type=int, default=400)
    args = parser.parse_args()
    ratio = args.share / (100 - args.share)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows = torch.randn(10_000, 96)
    model = nn.Sequential(
        nn.Linear(96, 896), nn.ReLU(), nn.Linear(896, 896), nn.ReLU(), nn.Linear(896, 96)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    started, collected_s, one_s = time.perf_counter(), 0.0, 0.03
    for _ in range(args.steps):
        batch = rows[torch.randint(len(rows), (64,))]
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(batch), batch)
        loss.backward()
        optimizer.step()
        rest_s = time.perf_counter() - started - collected_s
        while ratio * rest_s - collected_s >= one_s:
            before = time.perf_counter()
            gc.collect()
            one_s = time.perf_counter() - before
            collected_s += one_s
    total_s = time.perf_counter() - started
    print(f"loss {loss.item():.4f}, {args.steps} steps in {total_s:.2f} s")
    print(f"planted share {collected_s / total_s:.4f}")


if __name__ == "__main__":
    main()
