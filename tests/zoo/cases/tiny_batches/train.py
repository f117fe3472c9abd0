"""A policy network fitted to recorded actions, in many small updates."""

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(41)

BATCH = 2


class Policy(nn.Module):
    def __init__(self, width=24, depth=30):
        super().__init__()
        self.first = nn.Linear(10, width)
        self.gates = nn.ModuleList(nn.Linear(width, width) for _ in range(depth))
        self.norms = nn.ModuleList(nn.LayerNorm(width) for _ in range(depth))
        self.last = nn.Linear(width, 4)

    def forward(self, state):
        x = torch.tanh(self.first(state))
        for gate, norm in zip(self.gates, self.norms, strict=True):
            share = torch.sigmoid(gate(x))
            x = norm(share * x + (1 - share) * torch.tanh(x))
        return self.last(x)


states = torch.randn(20_000, 10)
actions = torch.randint(0, 4, (20_000,))
policy = Policy()
optimizer = torch.optim.Adam(policy.parameters(), lr=1e-3, fused=True)

for update in range(400):
    rows = slice(update * BATCH % 19_000, update * BATCH % 19_000 + BATCH)
    loss = nn.functional.cross_entropy(policy(states[rows]), actions[rows])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if update % 100 == 0:
        print(update, f"{loss.item():.4f}")
