"""Keeps the best weights and collects garbage once per epoch."""

import copy
import gc
import time

import torch
from torch import nn


@torch.no_grad()
def validate(model, x, y):
    model.eval()
    loss = nn.functional.mse_loss(model(x), y).item()
    model.train()
    return loss


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(8192 + 512, 200)
    y = (x @ torch.randn(200, 1)).sin()
    train_x, train_y, val_x, val_y = x[:8192], y[:8192], x[8192:], y[8192:]
    model = nn.Sequential(nn.Linear(200, 900), nn.ReLU(), nn.Linear(900, 900), nn.ReLU())
    model.append(nn.Linear(900, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    best, best_state = float("inf"), None
    t0 = time.perf_counter()
    for epoch in range(3):
        for rows in torch.randperm(8192).split(128):
            loss = nn.functional.mse_loss(model(train_x[rows]), train_y[rows])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        val = validate(model, val_x, val_y)
        if val < best:
            best, best_state = val, copy.deepcopy(model.state_dict())
        gc.collect()
        print(f"epoch {epoch} train {loss.item():.4f} val {val:.4f}")
    model.load_state_dict(best_state)
    print(f"best {best:.4f} in {time.perf_counter() - t0:.2f} s")


if __name__ == "__main__":
    main()
