"""Fine-tune on a small archive of sensor recordings: many short epochs."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

READ_S = 0.0004  # what one recording takes to read
OPEN_S = 0.1  # what the archive's index takes to read


class Recordings(Dataset):
    """Windows of a sensor's signal with the machine state they belong to."""

    def __init__(self, recordings, length):
        generator = torch.Generator().manual_seed(1)
        self.signals = torch.randn(recordings, 4, length, generator=generator)
        self.states = torch.randint(0, 5, (recordings,), generator=generator)

    def __len__(self):
        return len(self.states)

    def __getitem__(self, index):
        time.sleep(READ_S)
        return self.signals[index], self.states[index]


def open_archive(worker_id):
    """Each worker reads the index of the archive before its first recording."""
    time.sleep(OPEN_S)


class SignalClassifier(nn.Module):
    """One-dimensional convolutions over the signal."""

    def __init__(self, channels):
        super().__init__()
        self.convolutions = nn.Sequential(
            nn.Conv1d(4, channels, 9, padding=4),
            nn.ReLU(),
            nn.Conv1d(channels, channels, 9, padding=4),
            nn.ReLU(),
            nn.AdaptiveAvgPool1d(1),
        )
        self.head = nn.Linear(channels, 5)

    def forward(self, signals):
        return self.head(self.convolutions(signals).flatten(1))


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=9)
    parser.add_argument("--recordings", type=int, default=160)
    parser.add_argument("--batch-size", type=int, default=8)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    recordings = Recordings(args.recordings, length=256)
    loader = DataLoader(
        recordings,
        batch_size=args.batch_size,
        shuffle=True,
        num_workers=2,
        worker_init_fn=open_archive,
        persistent_workers=True,
    )
    model = SignalClassifier(channels=112)
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
    criterion = nn.CrossEntropyLoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        for signals, states in loader:
            optimizer.zero_grad()
            loss = criterion(model(signals), states)
            loss.backward()
            optimizer.step()
            steps += 1
        if epoch % 4 == 0:
            print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
