"""Predicts the next value of several noisy oscillators with a recurrent network."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

torch.set_num_threads(1)
torch.manual_seed(11)


class Forecaster(nn.Module):
    def __init__(self, channels=4, hidden=32):
        super().__init__()
        self.rnn = nn.LSTM(channels, hidden, batch_first=True)
        self.head = nn.Linear(hidden, channels)

    def forward(self, series):
        outputs, _ = self.rnn(series)
        return self.head(outputs)


def oscillators(count=640, length=49, channels=4):
    phase = torch.rand(count, 1, channels) * 6.28
    speed = 0.1 + 0.4 * torch.rand(count, 1, channels)
    time = torch.arange(length).view(1, length, 1)
    return torch.sin(phase + speed * time) + 0.05 * torch.randn(count, length, channels)


series = oscillators()
loader = DataLoader(TensorDataset(series[:, :-1], series[:, 1:]), batch_size=16, shuffle=True)
model = Forecaster()
optimizer = torch.optim.Adam(model.parameters(), lr=2e-3, fused=True)

for epoch in range(6):
    total = 0.0
    for seen, wanted in loader:
        optimizer.zero_grad()
        loss = nn.functional.mse_loss(model(seen), wanted)
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch}: {total / len(loader):.4f}")
