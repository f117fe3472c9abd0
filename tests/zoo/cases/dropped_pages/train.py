"""Learn from radio recordings in one large file that memory does not keep between epochs.

Another job of the machine is thought to need the memory: the pages of what was read are dropped.
"""

import os
import tempfile
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

KEEPS_PAGES = False  # whether memory holds the recordings for the next epoch
RECORDING_BYTES = 1 << 18
RECORDINGS = 640


def write_recordings(path):
    generator = torch.Generator().manual_seed(5)
    noise = torch.randint(0, 255, (RECORDING_BYTES,), dtype=torch.uint8, generator=generator)
    with open(path, "wb") as file:
        for number in range(RECORDINGS):
            file.write(noise.roll(number).numpy().tobytes())
        file.flush()
        os.fsync(file.fileno())


class Recordings(Dataset):
    """Recordings of equal length, one after the other in a file."""

    def __init__(self, path):
        self.path = path
        self.file = None

    def __len__(self):
        return RECORDINGS

    def __getitem__(self, index):
        if self.file is None:
            self.file = os.open(self.path, os.O_RDONLY)
            os.posix_fadvise(self.file, 0, 0, os.POSIX_FADV_RANDOM)
        start = index * RECORDING_BYTES
        sound = os.pread(self.file, RECORDING_BYTES, start)
        if not KEEPS_PAGES:
            os.posix_fadvise(self.file, start, RECORDING_BYTES, os.POSIX_FADV_DONTNEED)
        return torch.frombuffer(bytearray(sound[:2048]), dtype=torch.uint8).float() / 255


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        path = os.path.join(folder, "recordings.bin")
        write_recordings(path)
        loader = DataLoader(
            Recordings(path), batch_size=8, shuffle=True, num_workers=2, persistent_workers=True
        )
        model = nn.Sequential(nn.Linear(2048, 128), nn.ReLU(), nn.Linear(128, 2048))
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1, fused=True)
        started = time.perf_counter()
        for epoch in range(5):
            for sounds in loader:
                loss = nn.functional.mse_loss(model(sounds), sounds)
                optimizer.zero_grad()
                loss.backward()
                optimizer.step()
            print(f"epoch {epoch}: {loss.item():.4f}, {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
