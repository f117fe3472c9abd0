"""Gradient accumulation over four micro-batches in a Python loop."""

import argparse
import time

import torch
from torch import nn


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--accumulate", type=int, default=4)
    parser.add_argument("--micro-batch", type=int, default=48)
    parser.add_argument("--updates", type=int, default=150)
    args = parser.parse_args()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(4096, 256)
    y = x.norm(dim=1, keepdim=True)
    model = nn.Sequential(nn.Linear(256, 512), nn.GELU(), nn.Linear(512, 512), nn.GELU())
    model.append(nn.Linear(512, 1))
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, args.updates)
    start = time.perf_counter()
    for update in range(args.updates):
        for _ in range(args.accumulate):
            rows = torch.randint(4096, (args.micro_batch,))
            loss = nn.functional.mse_loss(model(x[rows]), y[rows])
            (loss / args.accumulate).backward()
        norm = nn.utils.clip_grad_norm_(model.parameters(), 1.0)
        optimizer.step()
        scheduler.step()
        optimizer.zero_grad()
        if update % 30 == 0:
            print(f"update {update} loss {loss.item():.4f} norm {norm.item():.2f}")
    print(f"time {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
