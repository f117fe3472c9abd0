"""Experts behind a very sharp softmax: most gates are next to nothing, some of them subnormal."""

import torch
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(8)


class SharpMixture(nn.Module):
    def __init__(self, inputs=32, experts=24, width=96, temperature=0.02):
        super().__init__()
        self.temperature = temperature
        self.gate = nn.Linear(inputs, experts)
        self.experts = nn.Linear(inputs, experts * width)
        self.shape = (experts, width)
        self.out = nn.Linear(width, 3)

    def forward(self, x):
        gates = torch.softmax(self.gate(x) / self.temperature, dim=-1)
        hidden = torch.tanh(self.experts(x)).view(len(x), *self.shape)
        return self.out((gates.unsqueeze(-1) * hidden).sum(dim=1))


data = torch.randn(6000, 32)
labels = (data[:, :3].cumsum(dim=1) > 0).sum(dim=1).clamp(max=2)
loader = torch.utils.data.DataLoader(
    torch.utils.data.TensorDataset(data, labels), batch_size=128, shuffle=True
)
model = SharpMixture()
optimizer = torch.optim.AdamW(model.parameters(), lr=1e-3, fused=True)
for epoch in range(8):
    total = 0.0
    for rows, classes in loader:
        loss = nn.functional.cross_entropy(model(rows), classes)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(epoch, round(total / len(loader), 4))
