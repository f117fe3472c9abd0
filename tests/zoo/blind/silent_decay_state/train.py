"""Leaky-integrator network driven by sparse spike trains."""

import time

import torch
from torch import nn


class LeakyNet(nn.Module):
    def __init__(self, inputs, hidden, outputs, leak=0.55):
        super().__init__()
        self.enc = nn.Linear(inputs, hidden, bias=False)
        self.dec = nn.Linear(hidden, outputs)
        self.leak = leak

    def forward(self, spikes, quiet):
        state = torch.relu(self.enc(spikes))
        trace = torch.zeros_like(state)
        for _ in range(quiet):
            state = state * self.leak
            trace = trace + state
        return self.dec(trace)


def train(steps=150, batch=64, hidden=512):
    net = LeakyNet(64, hidden, 5)
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01)
    started = time.perf_counter()
    for step in range(steps):
        spikes = (torch.rand(batch, 64) < 0.1).float()
        target = spikes.sum(1).long() % 5
        loss = nn.functional.cross_entropy(net(spikes, quiet=300), target)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 50 == 0:
            print(f"step {step} loss {loss.item():.3f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train()
