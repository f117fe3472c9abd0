"""A checkpoint every 20 steps onto a slow disk."""

import argparse
import io
import time

import torch
from torch import nn


class SlowDisk(io.BytesIO):
    """A file whose closing bytes arrive late."""

    def __init__(self, delay_s):
        super().__init__()
        self.until = time.perf_counter() + delay_s

    def flush(self):
        left_s = self.until - time.perf_counter()
        if left_s > 0:
            time.sleep(left_s)


def save(model, step, delay_s):
    disk = SlowDisk(delay_s)
    torch.save({"step": step, "model": model.state_dict()}, disk)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=25, help="per cent of the step")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    ratio = args.share / (100 - args.share)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows, labels = torch.randn(8000, 80), torch.randint(0, 9, (8000,))
    model = nn.Sequential(nn.Conv1d(8, 64, 3), nn.ReLU(), nn.Flatten(), nn.Linear(512, 9))
    layers = nn.Sequential(*(nn.Conv1d(64, 64, 3, padding=1) for _ in range(3)))
    model.insert(2, layers)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02)
    started, saved_s = time.perf_counter(), 0.0
    for step in range(1, args.steps + 1):
        chosen = torch.randint(len(rows), (256,))
        loss = nn.functional.cross_entropy(model(rows[chosen].view(-1, 8, 10)), labels[chosen])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 20 == 0:
            before = time.perf_counter()
            save(model, step, ratio * (before - started - saved_s) - saved_s)
            saved_s += time.perf_counter() - before
    total_s = time.perf_counter() - started
    print(f"loss {loss.item():.4f}, {args.steps} steps in {total_s:.2f} s")
    print(f"planted share {saved_s / total_s:.4f}")


if __name__ == "__main__":
    main()
