"""Train a linear head on top of a frozen convolutional encoder."""

import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset


def make_encoder():
    encoder = nn.Sequential(
        nn.Conv2d(3, 16, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.Conv2d(16, 32, 3, stride=2, padding=1),
        nn.ReLU(),
        nn.AdaptiveAvgPool2d(4),
        nn.Flatten(),
    )
    for p in encoder.parameters():
        p.requires_grad = False
    return encoder.eval()


class HeadTrainer:
    def __init__(self, encoder, head, lr=0.05):
        self.encoder = encoder
        self.head = head
        self.optimizer = torch.optim.SGD(head.parameters(), lr=lr)

    @torch.no_grad()
    def embed(self, images):
        return self.encoder(images)

    def train_epoch(self, loader):
        total = 0.0
        for images, labels in loader:
            logits = self.head(self.embed(images))
            loss = nn.functional.cross_entropy(logits, labels)
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            total += loss.item()
        return total / len(loader)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    images = torch.randn(480, 3, 48, 48)
    labels = torch.randint(6, (480,))
    head = nn.Sequential(nn.Linear(512, 768), nn.ReLU(), nn.Linear(768, 768), nn.ReLU())
    head.append(nn.Linear(768, 6))
    trainer = HeadTrainer(make_encoder(), head)
    began = time.perf_counter()
    loader = DataLoader(TensorDataset(images, labels), batch_size=32, shuffle=True)
    for epoch in range(16):
        print(f"epoch {epoch} loss {trainer.train_epoch(loader):.4f}")
    print(f"head trained in {time.perf_counter() - began:.2f} s")


if __name__ == "__main__":
    main()
