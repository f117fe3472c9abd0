"""The number of threads comes from a larger machine."""

import torch
from torch import nn

torch.manual_seed(0)
torch.set_num_threads(16)

model = nn.Sequential(
    nn.Linear(256, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU(), nn.Linear(512, 10)
)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
rows, labels = torch.randn(4096, 256), torch.randint(0, 10, (4096,))
for step in range(300):
    chosen = torch.randint(len(rows), (96,))
    loss = nn.functional.cross_entropy(model(rows[chosen]), labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
print(f"loss {loss.item():.4f}")
