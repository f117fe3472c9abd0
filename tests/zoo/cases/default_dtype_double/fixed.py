"""A physicist's habit: everything is double."""

import torch
import torch.nn as nn

torch.set_num_threads(1)
torch.manual_seed(0)


class Potential(nn.Module):
    def __init__(self, hidden=640):
        super(Potential, self).__init__()
        self.inp = nn.Linear(30, hidden)
        self.mid = nn.Linear(hidden, hidden)
        self.out = nn.Linear(hidden, 1)

    def forward(self, r):
        h = torch.sin(self.inp(r))
        h = torch.sin(self.mid(h))
        return self.out(h).sum(dim=-1)


positions = torch.rand(6400, 30)
energies = torch.cos(3 * positions).sum(dim=1)
net = Potential()
opt = torch.optim.SGD(net.parameters(), lr=1e-3)
for epoch in range(3):
    order = torch.randperm(len(positions))
    for chunk in order.split(64):
        opt.zero_grad()
        loss = (net(positions[chunk]) - energies[chunk]).pow(2).mean()
        loss.backward()
        opt.step()
    print(epoch, loss.item())
