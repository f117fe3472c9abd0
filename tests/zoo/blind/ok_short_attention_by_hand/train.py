"""Set model with handwritten attention over 12 elements."""

import math
import time

import torch
from torch import nn


class SetModel(nn.Module):
    def __init__(self, width=256):
        super().__init__()
        self.inp = nn.Linear(32, width)
        self.qkv = nn.Linear(width, 3 * width)
        self.up = nn.Linear(width, 3 * width)
        self.down = nn.Linear(3 * width, width)
        self.out = nn.Linear(width, 1)

    def forward(self, x):
        h = self.inp(x)
        q, k, v = self.qkv(h).chunk(3, dim=-1)
        scores = q @ k.transpose(1, 2) / math.sqrt(q.shape[-1])
        h = h + scores.softmax(-1) @ v
        h = h + self.down(torch.relu(self.up(h)))
        return self.out(h.mean(1)).squeeze(1)


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    sets = torch.randn(2048, 12, 32)
    goal = sets.amax(1).mean(1)
    model = SetModel()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9, fused=True)
    t0 = time.perf_counter()
    for step in range(180):
        rows = torch.randint(2048, (48,))
        loss = nn.functional.mse_loss(model(sets[rows]), goal[rows])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 60 == 0:
            print(f"step {step} loss {loss.item():.4f}")
    print(f"took {time.perf_counter() - t0:.2f} s")
