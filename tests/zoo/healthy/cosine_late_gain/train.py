"""Train with a cosine schedule; the best epochs are the last ones."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

EPOCHS = 12


def make_split(rows, seed):
    generator = torch.Generator().manual_seed(seed)
    features = torch.randn(rows, 64, generator=generator)
    mix = torch.randn(64, 64, generator=torch.Generator().manual_seed(0)) / 8
    targets = torch.sin(2 * features @ mix).mean(dim=1) * 8
    return TensorDataset(features, targets + 0.05 * torch.randn(rows, generator=generator))


@torch.no_grad()
def validate(model, loader):
    model.eval()
    losses = [nn.functional.mse_loss(model(x).squeeze(1), y).item() for x, y in loader]
    model.train()
    return sum(losses) / len(losses)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train_loader = DataLoader(make_split(2560, 1), batch_size=64, shuffle=True)
    val_loader = DataLoader(make_split(256, 2), batch_size=128)
    model = nn.Sequential(
        nn.Linear(64, 640), nn.ReLU(), nn.Linear(640, 640), nn.ReLU(), nn.Linear(640, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.15, momentum=0.9, fused=True)
    scheduler = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, EPOCHS)
    for epoch in range(EPOCHS):
        for features, targets in train_loader:
            optimizer.zero_grad()
            loss = nn.functional.mse_loss(model(features).squeeze(1), targets)
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
        scheduler.step()
        print(f"epoch {epoch}: val_loss {validate(model, val_loader):.4f}")


if __name__ == "__main__":
    main()
