"""Classify scanned letters; a few of them are posters, scanned at full size."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

READ_S = 0.0002  # what one ordinary scan takes to read
POSTER_READ_S = 0.5  # and one poster
POSTER_EVERY = 960


class Scans(Dataset):
    """Scans with the letter that each shows."""

    def __init__(self, scans, size):
        generator = torch.Generator().manual_seed(1)
        self.letters = torch.randint(0, 26, (scans,), generator=generator)
        shapes = torch.randn(26, size * size, generator=generator)
        self.pixels = shapes[self.letters] + torch.randn(scans, size * size, generator=generator)

    def __len__(self):
        return len(self.letters)

    def __getitem__(self, index):
        poster = index % POSTER_EVERY == POSTER_EVERY // 2
        time.sleep(POSTER_READ_S if poster else READ_S)
        return self.pixels[index], self.letters[index]


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--scans", type=int, default=4800)
    parser.add_argument("--batch-size", type=int, default=16)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(Scans(args.scans, 24), batch_size=args.batch_size, num_workers=2)
    model = nn.Sequential(
        nn.Linear(24 * 24, 1600), nn.ReLU(), nn.Linear(1600, 1600), nn.ReLU(), nn.Linear(1600, 26)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.02, fused=True)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    for pixels, letters in loader:
        optimizer.zero_grad()
        loss = criterion(model(pixels), letters)
        loss.backward()
        optimizer.step()
    print(f"{len(loader)} steps in {time.perf_counter() - started:.2f} s, loss {loss.item():.3f}")


if __name__ == "__main__":
    main()
