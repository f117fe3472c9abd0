"""Video-clip classifier; the loader gets as many workers as the old training server had."""

import argparse
import time

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset


class ClipFeatures(Dataset):
    def __init__(self, n):
        self.n = n
        self.codebook = None

    def setup(self):
        """Per-process decoding tables."""
        rng = np.random.default_rng(0)
        table = rng.standard_normal((600, 600))
        self.codebook = np.linalg.svd(table)[2][:64].astype(np.float32)

    def __len__(self):
        return self.n

    def __getitem__(self, i):
        rng = np.random.default_rng(i)
        frames = rng.standard_normal((16, 600), dtype=np.float32)
        return torch.from_numpy(frames @ self.codebook.T), i % 4


def start_worker(worker_id):
    torch.utils.data.get_worker_info().dataset.setup()


def parse():
    parser = argparse.ArgumentParser()
    parser.add_argument("--num-workers", type=int, default=1)
    parser.add_argument("--epochs", type=int, default=2)
    return parser.parse_args()


def main():
    args = parse()
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(
        ClipFeatures(1200),
        batch_size=12,
        shuffle=True,
        num_workers=args.num_workers,
        persistent_workers=True,
        worker_init_fn=start_worker,
    )
    model = nn.Sequential(nn.Flatten(), nn.Linear(1024, 512), nn.ReLU(), nn.Linear(512, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    t0 = time.perf_counter()
    for epoch in range(args.epochs):
        for clips, labels in loader:
            loss = nn.functional.cross_entropy(model(clips), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch} loss {loss.item():.3f}")
    print(f"took {time.perf_counter() - t0:.2f} s")


if __name__ == "__main__":
    main()
