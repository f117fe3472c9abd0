"""Few-shot style training: many short passes over a small set of recorded signals."""

import json
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


def write_corpus(folder, n):
    rng = np.random.default_rng(3)
    np.save(folder / "signals.npy", rng.standard_normal((n, 512)).astype(np.float32))
    index = [
        {"row": i, "label": int(i % 5), "tags": [f"t{j}" for j in range(40)]} for i in range(n)
    ]
    (folder / "index.json").write_text(json.dumps(index * 40))


class Signals(Dataset):
    """Opens its files on first use, so that every worker has handles of its own."""

    def __init__(self, folder, n):
        self.folder = folder
        self.n = n
        self.index = None
        self.signals = None

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        if self.index is None:
            self.index = json.loads((self.folder / "index.json").read_text())
            self.signals = np.load(self.folder / "signals.npy", mmap_mode="r")
        time.sleep(0.0004)
        x = np.array(self.signals[self.index[i]["row"]])
        return torch.from_numpy(x), self.index[i]["label"]


class Trainer:
    def __init__(self, model, loader, lr):
        self.model = model
        self.loader = loader
        self.optimizer = torch.optim.SGD(model.parameters(), lr=lr)
        self.criterion = nn.CrossEntropyLoss()

    def run_epoch(self):
        total = 0.0
        for x, y in self.loader:
            self.optimizer.zero_grad()
            loss = self.criterion(self.model(x), y)
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(self.loader)

    def fit(self, epochs):
        for epoch in range(epochs):
            loss = self.run_epoch()
            if epoch % 5 == 0:
                print(f"epoch {epoch} loss {loss:.3f}")


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        write_corpus(Path(tmp), 160)
        dataset = Signals(Path(tmp), 160)
        loader = DataLoader(dataset, batch_size=16, shuffle=True, num_workers=2)
        model = nn.Sequential(nn.Linear(512, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
        model.append(nn.Linear(1024, 5))
        begin = time.perf_counter()
        Trainer(model, loader, 0.02).fit(16)
        print(f"fit took {time.perf_counter() - begin:.2f} s")


if __name__ == "__main__":
    main()
