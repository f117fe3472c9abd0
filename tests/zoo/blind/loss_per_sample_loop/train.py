"""Box regression: IoU loss for each predicted box."""

import time

import torch
from torch import nn


def box_loss(pred, target):
    losses = []
    for p, t in zip(pred, target, strict=True):
        width = torch.minimum(p[2], t[2]) - torch.maximum(p[0], t[0])
        height = torch.minimum(p[3], t[3]) - torch.maximum(p[1], t[1])
        inter = width.clamp(min=0) * height.clamp(min=0)
        area = (p[2] - p[0]).abs() * (p[3] - p[1]).abs() + (t[2] - t[0]) * (t[3] - t[1])
        losses.append(1 - inter / (area - inter + 1e-6))
    return torch.stack(losses).mean()


class BoxNet(nn.Module):
    def __init__(self):
        super().__init__()
        self.net = nn.Sequential(nn.Linear(256, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU())
        self.head = nn.Linear(1024, 4)

    def forward(self, x):
        corner, size = self.head(self.net(x)).sigmoid().chunk(2, dim=1)
        return torch.cat([corner, corner + size], dim=1)


class Trainer:
    def __init__(self, steps):
        self.steps = steps
        self.model = BoxNet()
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.x = torch.randn(1024, 256)
        corner = torch.rand(1024, 2)
        self.boxes = torch.cat([corner, corner + torch.rand(1024, 2) + 0.1], dim=1)

    def fit(self):
        for step in range(self.steps):
            rows = torch.randint(1024, (16,))
            loss = box_loss(self.model(self.x[rows]), self.boxes[rows])
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            if step % 40 == 0:
                print(f"step {step} loss {loss.item():.4f}")


if __name__ == "__main__":
    torch.manual_seed(0)
    torch.set_num_threads(1)
    trainer = Trainer(160)
    started = time.perf_counter()
    trainer.fit()
    print(f"fit: {time.perf_counter() - started:.2f} s")
