"""Classify short recordings by their spectrum."""

import numpy as np
import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

torch.manual_seed(3)
torch.set_num_threads(1)


class Recordings(Dataset):
    def __init__(self, count=300):
        rng = np.random.default_rng(3)
        self.waves = rng.standard_normal((count, 4096)).astype(np.float32)
        self.labels = rng.integers(0, 4, count)
        self.window = np.hanning(512).astype(np.float32)

    def __len__(self):
        return len(self.waves)

    def spectrum(self, index):
        wave = self.waves[index]
        frames = np.stack([wave[s : s + 512] * self.window for s in range(0, 3584, 10)])
        return np.log1p(np.abs(np.fft.rfft(frames, axis=1))).mean(0).astype(np.float32)

    def __getitem__(self, index):
        return self.spectrum(index), self.labels[index]


def main():
    loader = DataLoader(Recordings(), batch_size=4, shuffle=True)
    model = nn.Sequential(nn.Linear(257, 512), nn.ReLU(), nn.Linear(512, 4))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    for _ in range(4):
        for spectra, labels in loader:
            loss = nn.functional.cross_entropy(model(spectra), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
    print(f"{loss.item():.4f}")


if __name__ == "__main__":
    main()
