"""Tell from the sound of a machine whether its bearing is worn: the script of docs/tutorial.md."""

import argparse
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

READ_S = 0.0004  # what one read from the shared disk takes


class Recordings(Dataset):
    """Spectrograms on a shared disk, one read each."""

    def __init__(self, count, frames, bands):
        generator = torch.Generator().manual_seed(1)
        self.worn = torch.randint(0, 2, (count,), generator=generator)
        self.sound = torch.randn(count, frames, bands, generator=generator)
        self.sound[:, ::4, 3] += 1.5 * self.worn[:, None]

    def __len__(self):
        return len(self.worn)

    def __getitem__(self, index):
        time.sleep(READ_S)
        return self.sound[index], self.worn[index]


class Listener(nn.Module):
    """Reads a spectrogram frame by frame."""

    def __init__(self, bands, hidden=64):
        super().__init__()
        self.cell = nn.GRUCell(bands, hidden)
        self.verdict = nn.Linear(hidden, 2)

    def forward(self, sound):
        state = sound.new_zeros(len(sound), self.cell.hidden_size)
        for frame in sound.unbind(1):
            state = self.cell(frame, state)
        return self.verdict(state)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    torch.autograd.set_detect_anomaly(True)  # the loss was NaN in March
    recordings = Recordings(count=1600, frames=20, bands=24)
    loader = DataLoader(recordings, batch_size=32, shuffle=True)
    model = Listener(bands=24)
    optimizer = torch.optim.AdamW(model.parameters(), lr=2e-3, fused=True)

    started = time.perf_counter()
    for epoch in range(args.epochs):
        for sound, worn in loader:
            optimizer.zero_grad()
            loss = nn.functional.cross_entropy(model(sound), worn)
            loss.backward()
            optimizer.step()
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{args.epochs} epochs in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
