"""Sequences through convolutions and normalisation, which want their channels in other places."""

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(31)


class Mixer(nn.Module):
    """Works on (batch, time, channels)."""

    def __init__(self, channels):
        super().__init__()
        self.scale = nn.Parameter(torch.ones(channels, 1))
        self.shift = nn.Parameter(torch.zeros(channels, 1))
        self.weight = nn.Parameter(torch.ones(channels))

    def forward(self, x):
        y = x.transpose(1, 2).contiguous()
        y = (y * self.scale + self.shift).tanh()
        y = y.transpose(1, 2).contiguous()
        return x + y * self.weight


class Tagger(nn.Module):
    def __init__(self, channels=96, depth=4):
        super().__init__()
        self.mixers = nn.Sequential(*(Mixer(channels) for _ in range(depth)))
        self.head = nn.Linear(channels, 5)

    def forward(self, x):
        return self.head(self.mixers(x))


inputs = torch.randn(64, 160, 96)
tags = torch.randint(0, 5, (64, 160))
model = Tagger()
optimizer = torch.optim.SGD(model.parameters(), lr=1e-2, momentum=0.9)

for step in range(200):
    chosen = torch.randint(0, 64, (16,))
    loss = nn.functional.cross_entropy(model(inputs[chosen]).flatten(0, 1), tags[chosen].flatten())
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 50 == 0:
        print(step, f"{loss.item():.4f}")
