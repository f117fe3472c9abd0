"""Saves to a slow disk, and collects afterwards, in a class."""

import gc
import io
import time

import torch
from torch import nn


class SlowFile(io.BytesIO):
    def __init__(self, wait_s):
        super().__init__()
        self.wait_s = wait_s

    def flush(self):
        time.sleep(max(self.wait_s, 0.0))
        self.wait_s = 0.0


class Loop:
    def __init__(self):
        self.model = nn.Sequential(
            nn.Conv1d(4, 48, 5),
            nn.ReLU(),
            nn.Conv1d(48, 48, 5),
            nn.ReLU(),
            nn.Flatten(),
            nn.Linear(48 * 56, 4),
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.01)
        self.saved_s = self.collected_s = 0.0
        self.started = time.perf_counter()

    def step(self):
        signals = torch.randn(24, 4, 64)
        loss = nn.functional.cross_entropy(self.model(signals), signals.mean(2).argmax(1))
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        return loss

    @property
    def rest_s(self):
        return time.perf_counter() - self.started - self.saved_s - self.collected_s

    def save(self):
        wait_s = 2 * self.rest_s - self.saved_s
        before = time.perf_counter()
        torch.save(self.model.state_dict(), SlowFile(wait_s))
        self.saved_s += time.perf_counter() - before

    def clean(self):
        while self.collected_s < self.rest_s:
            before = time.perf_counter()
            gc.collect()
            self.collected_s += time.perf_counter() - before

    def run(self, steps):
        for number in range(1, steps + 1):
            loss = self.step()
            self.clean()
            if number % 20 == 0:
                self.save()
        return loss.item()


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loop = Loop()
    print(
        f"loss {loop.run(300):.4f}; saved {loop.saved_s:.2f} s, collected {loop.collected_s:.2f} s"
    )
    print(f"planted share {loop.saved_s / (time.perf_counter() - loop.started):.4f}")
