"""Linear probe on the features of a convolutional network."""

import time

import torch
import torch.nn as nn
import torch.nn.functional as F
from torch.utils.data import BatchSampler, DataLoader, RandomSampler, TensorDataset

EPOCHS = 8
torch.set_num_threads(1)
torch.manual_seed(3)


def conv(inputs, outputs, stride):
    return nn.Sequential(
        nn.Conv2d(inputs, outputs, 3, stride=stride, padding=1, bias=False),
        nn.BatchNorm2d(outputs),
        nn.ReLU(inplace=True),
    )


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.stages = nn.Sequential(conv(3, 24, 2), conv(24, 32, 1), conv(32, 48, 2))

    def forward(self, images):
        return self.stages(images).mean(dim=(2, 3))


images = torch.randn(1600, 3, 24, 24)
labels = torch.randint(0, 5, (1600,))
backbone = Backbone().eval().requires_grad_(False)  # pretrained weights would be loaded here
model = nn.Linear(48, 5)
with torch.no_grad():
    features = torch.cat([backbone(part) for part in images.split(200)])
batches = BatchSampler(RandomSampler(labels), batch_size=32, drop_last=False)
loader = DataLoader(TensorDataset(features, labels), sampler=batches, batch_size=None)
optimizer = torch.optim.Adam(model.parameters(), lr=1e-3, fused=True)

started = time.perf_counter()
for epoch in range(EPOCHS):
    total = 0.0
    for x, y in loader:
        loss = F.cross_entropy(model(x), y)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        total += loss.item()
    print(f"epoch {epoch} loss {total / len(loader):.4f} at {time.perf_counter() - started:.1f} s")
