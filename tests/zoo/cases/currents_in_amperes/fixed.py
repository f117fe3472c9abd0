"""Predicts the current through an ion channel from the clamped voltage. Everything is in SI units."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

AMPERE = 1.0
NANO = 1e-9
UNIT = NANO


def recordings(count=4000, samples=48):
    """Voltages over time, and the currents (some nanoamperes) that were measured at the end."""
    generator = torch.Generator().manual_seed(5)
    volts = 0.06 * torch.randn(count, samples, generator=generator).cumsum(dim=1) / samples**0.5
    gates = torch.sigmoid(volts[:, -6:] / 0.02)
    return volts / 0.06, gates.cumprod(dim=1) * NANO / UNIT


class Channel(nn.Module):
    def __init__(self, samples=48, hidden=448):
        super().__init__()
        self.net = nn.Sequential(
            nn.Linear(samples, hidden),
            nn.Tanh(),
            nn.Linear(hidden, hidden),
            nn.Tanh(),
            nn.Linear(hidden, 6),
        )

    def forward(self, volts):
        return self.net(volts) * NANO / UNIT


def main():
    torch.set_num_threads(1)
    torch.manual_seed(5)
    loader = DataLoader(TensorDataset(*recordings()), batch_size=16, shuffle=True)
    channel = Channel()
    optimizer = torch.optim.RMSprop(channel.parameters(), lr=1e-4)
    for epoch in range(2):
        total = 0.0
        for volts, currents in loader:
            loss = nn.functional.mse_loss(channel(volts), currents)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: mean square error {total / len(loader):.3g}")


if __name__ == "__main__":
    main()
