"""Patches of textures, told apart by a small convolutional network."""

import torch
from torch import nn
from torch.nn import functional as F
from torch.utils.data import DataLoader, TensorDataset


class Net(nn.Module):
    def __init__(self, classes=6):
        super().__init__()
        self.conv1 = nn.Conv2d(3, 32, 5, stride=2)
        self.conv2 = nn.Conv2d(32, 64, 3)
        self.fc1 = nn.Linear(64 * 6 * 6, 384)
        self.fc2 = nn.Linear(384, classes)

    def forward(self, x):
        x = F.relu(self.conv1(x))
        x = F.max_pool2d(F.relu(self.conv2(x)), 2)
        x = F.relu(self.fc1(torch.flatten(x, 1)))
        return self.fc2(x)


def textures(count=1_500, classes=6):
    """Stripes of another direction and width for each class, as bytes."""
    generator = torch.Generator().manual_seed(3)
    labels = torch.randint(classes, (count,), generator=generator)
    y, x = torch.meshgrid(torch.arange(32.0), torch.arange(32.0), indexing="ij")
    angle = labels.view(-1, 1, 1) * 3.14 / classes
    waves = torch.sin((x * angle.cos() + y * angle.sin()) * 0.9)
    colours = torch.rand(count, 3, 1, 1, generator=generator)
    noise = torch.rand(count, 3, 32, 32, generator=generator)
    images = (0.5 + 0.3 * waves.unsqueeze(1) * colours + 0.2 * (noise - 0.5)).clamp(0, 1)
    return (images * 255).byte(), labels


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images, labels = textures()
    loader = DataLoader(TensorDataset(images.float() / 255, labels), batch_size=64, shuffle=True)
    net = Net()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.002, momentum=0.9, fused=True)
    for epoch in range(25):
        total = 0.0
        for batch, target in loader:
            optimizer.zero_grad()
            loss = F.cross_entropy(net(batch), target)
            loss.backward()
            optimizer.step()
            total += loss.item()
        print(f"epoch {epoch}: {total / len(loader):.3f}")


if __name__ == "__main__":
    main()
