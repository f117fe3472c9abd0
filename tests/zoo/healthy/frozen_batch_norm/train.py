"""Fine-tune the head of a convolutional network; the rest is frozen."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


class Classifier(nn.Module):
    """A frozen backbone without gradients, and a head that learns."""

    def __init__(self, classes):
        super().__init__()
        self.backbone = nn.Sequential(
            nn.Conv2d(3, 32, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(32),
            nn.ReLU(),
            nn.Conv2d(32, 48, 3, stride=2, padding=1, bias=False),
            nn.BatchNorm2d(48),
            nn.ReLU(),
        )
        self.backbone.requires_grad_(False)
        self.head = nn.Sequential(
            nn.Conv2d(48, 96, 3, padding=1),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(1),
            nn.Flatten(),
            nn.Linear(96, classes),
        )

    def train(self, mode=True):
        super().train(mode)
        self.backbone.eval()  # running statistics stay as they were learnt
        return self

    def forward(self, pictures):
        with torch.no_grad():
            features = self.backbone(pictures)
        return self.head(features)


def augmented(pictures):
    brightness = 0.8 + 0.4 * torch.rand(len(pictures), 1, 1, 1)
    pictures = pictures * brightness + 0.1 * torch.randn_like(pictures)
    return pictures.flip(-1) if torch.rand(()) < 0.5 else pictures


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    labels = torch.randint(0, 5, (3200,))
    pictures = torch.randn(5, 3, 32, 32)[labels] + torch.randn(3200, 3, 32, 32)
    loader = DataLoader(TensorDataset(pictures, labels), batch_size=32, shuffle=True)
    model = Classifier(classes=5)
    optimizer = torch.optim.SGD(model.head.parameters(), lr=0.02, momentum=0.9)
    model.train()
    for epoch in range(2):
        for pictures, labels in loader:
            loss = nn.functional.cross_entropy(model(augmented(pictures)), labels)
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
        print(epoch, round(loss.item(), 4))


if __name__ == "__main__":
    main()
