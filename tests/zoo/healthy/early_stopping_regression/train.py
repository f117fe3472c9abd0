"""A regression with early stopping, a warm-up, and weight averaging at the end."""

from dataclasses import dataclass

import torch
from torch import nn
from torch.optim.swa_utils import AveragedModel
from torch.utils.data import DataLoader, TensorDataset


@dataclass
class Config:
    epochs: int = 30
    patience: int = 2
    batch_size: int = 64
    lr: float = 0.02
    warm_up: int = 20


def data(config):
    generator = torch.Generator().manual_seed(5)
    x = torch.randn(4096, 32, generator=generator)
    y = (x[:, :4] ** 2).sum(1, keepdim=True) + 0.5 * torch.randn(4096, 1, generator=generator)
    train = DataLoader(TensorDataset(x[:3584], y[:3584]), config.batch_size, shuffle=True)
    return train, DataLoader(TensorDataset(x[3584:], y[3584:]), 256)


def main(config):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    train, valid = data(config)
    model = nn.Sequential(
        nn.Linear(32, 896), nn.ReLU(), nn.Linear(896, 896), nn.ReLU(), nn.Linear(896, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=config.lr, momentum=0.8)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / config.warm_up)
    )
    average = AveragedModel(model)
    best, waited = float("inf"), 0
    for epoch in range(config.epochs):
        for x, y in train:
            optimizer.zero_grad()
            nn.functional.smooth_l1_loss(model(x), y).backward()
            optimizer.step()
            schedule.step()
        average.update_parameters(model)
        with torch.no_grad():
            loss = sum(nn.functional.smooth_l1_loss(model(x), y).item() for x, y in valid)
        print(f"{epoch}: {loss / len(valid):.4f}")
        if loss < best - 0.01:
            best, waited = loss, 0
        else:
            waited += 1
            if waited > config.patience:
                break


if __name__ == "__main__":
    main(Config())
