"""Slow reads take half of the time; collections take half of what is left."""

import gc
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class Letters(Dataset):
    def __init__(self, count):
        self.letters = torch.randn(count, 1, 16, 16)
        self.wait_s = 0.0
        self.waited_s = 0.0

    def __len__(self):
        return len(self.letters)

    def __getitem__(self, index):
        started = time.perf_counter()
        time.sleep(self.wait_s)
        self.waited_s += time.perf_counter() - started
        return self.letters[index], index % 26


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    letters = Letters(4800)
    loader = DataLoader(letters, batch_size=16)
    model = nn.Sequential(
        nn.Conv2d(1, 32, 3),
        nn.ReLU(),
        nn.Conv2d(32, 32, 3),
        nn.ReLU(),
        nn.Flatten(),
        nn.Linear(32 * 144, 26),
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    started, collected_s = time.perf_counter(), 0.0
    for pictures, labels in loader:
        loss = nn.functional.cross_entropy(model(pictures), labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rest_s = time.perf_counter() - started - letters.waited_s - collected_s
        if collected_s < rest_s:
            before = time.perf_counter()
            gc.collect()
            collected_s += time.perf_counter() - before
        letters.wait_s = max(2 * rest_s - letters.waited_s, 0.0) / 16
    total_s = time.perf_counter() - started
    print(
        f"loss {loss.item():.4f}; reads {letters.waited_s:.2f} s, collections {collected_s:.2f} s"
    )
    print(f"planted share {letters.waited_s / total_s:.4f}")


if __name__ == "__main__":
    main()
