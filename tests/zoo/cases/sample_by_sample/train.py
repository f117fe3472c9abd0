"""Distances between point clouds: each sample goes through the encoder by itself."""

import torch
import torch.nn.functional as F
from torch import nn

torch.set_num_threads(1)
torch.manual_seed(5)


class CloudEncoder(nn.Module):
    def __init__(self):
        super().__init__()
        self.lift = nn.Linear(3, 32)
        self.mix = nn.Linear(32, 32)
        self.out = nn.Linear(32, 8)

    def forward(self, cloud):
        features = F.relu(self.mix(F.relu(self.lift(cloud))))
        return self.out(features.max(dim=-2).values)


def batch_loss(encoder, clouds, labels):
    losses = []
    for cloud, label in zip(clouds, labels, strict=True):
        scores = encoder(cloud)
        losses.append(F.cross_entropy(scores, label))
    return torch.stack(losses).mean()


clouds = torch.randn(512, 24, 3)
labels = torch.randint(0, 8, (512,))
encoder = CloudEncoder()
optimizer = torch.optim.SGD(encoder.parameters(), lr=0.05)

for step in range(300):
    chosen = torch.randperm(512)[:48]
    loss = batch_loss(encoder, clouds[chosen], labels[chosen])
    optimizer.zero_grad()
    loss.backward()
    optimizer.step()
    if step % 100 == 0:
        print(step, round(loss.item(), 4))
