"""Many small tensors, and a warning that is sent at each step."""

import logging
import time

import torch
from torch import nn

logger = logging.getLogger(__name__)


class Remote(logging.StreamHandler):
    wait_s = 0.0

    def emit(self, record):
        time.sleep(self.wait_s)


class Layer(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.fc = nn.Linear(width, width)
        self.norm = nn.LayerNorm(width)

    def forward(self, x):
        return x + torch.tanh(self.fc(self.norm(x)))


def main(steps=200):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    remote = Remote()
    logger.addHandler(remote)
    logger.propagate = False
    model = nn.Sequential(*(Layer(32) for _ in range(40)), nn.Linear(32, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started, logged_s = time.perf_counter(), 0.0
    for step in range(steps):
        rows = torch.randn(32, 32)
        loss = nn.functional.mse_loss(model(rows), rows.amax(1, keepdim=True))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        before = time.perf_counter()
        remote.wait_s = max(1.2 * (before - started - logged_s) - logged_s, 0.0)
        logger.warning("step %d: loss is still %.3f", step, loss.item())
        logged_s += time.perf_counter() - before
    total_s = time.perf_counter() - started
    print(f"loss {loss.item():.4f}; log {logged_s:.2f} of {total_s:.2f} s")
    print(f"planted share {logged_s / total_s:.4f}")


if __name__ == "__main__":
    main()
