"""A residual network on tabular data that keeps a moving average of its weights."""

import copy

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(8)


class Residual(nn.Module):
    def __init__(self, width):
        super().__init__()
        self.norm = nn.LayerNorm(width)
        self.first = nn.Linear(width, width)
        self.second = nn.Linear(width, width)

    def forward(self, x):
        return x + self.second(torch.relu(self.first(self.norm(x))))


class AveragedTrainer:
    def __init__(self, model, decay=0.995):
        self.model = model
        self.average = copy.deepcopy(model).requires_grad_(False)
        self.decay = decay
        self.optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)

    @torch.no_grad()
    def update_average(self):
        kept, current = list(self.average.parameters()), list(self.model.parameters())
        torch._foreach_lerp_(kept, current, 1 - self.decay)

    def step(self, inputs, targets):
        loss = nn.functional.mse_loss(self.model(inputs), targets)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        self.update_average()
        return loss.item()


table = torch.randn(2_000, 20)
target = (table[:, :1] * table[:, 1:2]).tanh()
network = nn.Sequential(nn.Linear(20, 24), *(Residual(24) for _ in range(12)), nn.Linear(24, 1))
trainer = AveragedTrainer(network)

for step in range(500):
    rows = torch.randint(0, 2_000, (16,))
    loss = trainer.step(table[rows], target[rows])
    if step % 100 == 0:
        print(f"step {step}: {loss:.4f}")
