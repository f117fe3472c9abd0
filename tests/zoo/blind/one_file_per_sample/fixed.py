"""Train on sensor windows, exported as one .npy file per window."""

import logging
import tempfile
import time
from pathlib import Path

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

logging.basicConfig(level=logging.INFO, format="%(message)s")
log = logging.getLogger("sensors")
N, WIDTH, BATCH, EPOCHS = 3200, 96, 64, 4


def export(folder):
    rng = np.random.default_rng(0)
    windows = rng.standard_normal((N, WIDTH)).astype(np.float32)
    np.save(folder / "all.npy", windows)
    for i in range(N):
        sub = folder / f"{i % 100:02d}"
        sub.mkdir(exist_ok=True)
        np.save(sub / f"{i:05d}.npy", windows[i])


class Windows(Dataset):
    def __init__(self, folder):
        self.windows = np.load(folder / "all.npy")

    def __len__(self):
        return N

    def __getitem__(self, i):
        return torch.from_numpy(self.windows[i])


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as tmp:
        export(Path(tmp))
        loader = DataLoader(Windows(Path(tmp)), batch_size=BATCH, shuffle=True)
        encoder = nn.Sequential(nn.Linear(WIDTH, 1536), nn.ReLU(), nn.Linear(1536, 16))
        decoder = nn.Sequential(nn.Linear(16, 1536), nn.ReLU(), nn.Linear(1536, WIDTH))
        params = [*encoder.parameters(), *decoder.parameters()]
        optimizer = torch.optim.AdamW(params, lr=1e-3, fused=True)
        begin = time.perf_counter()
        for epoch in range(EPOCHS):
            running = 0.0
            for x in loader:
                loss = nn.functional.mse_loss(decoder(encoder(x)), x)
                optimizer.zero_grad(set_to_none=True)
                loss.backward()
                optimizer.step()
                running += loss.item()
            log.info("epoch %d reconstruction %.4f", epoch, running / len(loader))
        log.info("trained in %.2f s", time.perf_counter() - begin)


if __name__ == "__main__":
    main()
