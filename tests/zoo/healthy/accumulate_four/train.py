"""Large batches on little memory: gradients of four micro-batches make one update."""

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

ACCUMULATE = 4


def build_model(width=512):
    layers = []
    for _ in range(3):
        layers += [nn.Linear(width, width), nn.LayerNorm(width), nn.SiLU()]
    return nn.Sequential(nn.Linear(64, width), *layers, nn.Linear(width, 5))


def build_loader(rows=25600):
    generator = torch.Generator().manual_seed(7)
    labels = torch.randint(0, 5, (rows,), generator=generator)
    centres = torch.randn(5, 64, generator=generator)
    data = TensorDataset(centres[labels] + torch.randn(rows, 64, generator=generator), labels)
    return DataLoader(data, batch_size=32, shuffle=True, drop_last=True)


def run_epoch(model, loader, optimizer, criterion):
    running = 0.0
    for number, (rows, labels) in enumerate(loader, start=1):
        loss = criterion(model(rows), labels) / ACCUMULATE
        loss.backward()
        running += loss.detach()
        if number % ACCUMULATE == 0:
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            optimizer.zero_grad()
    return float(running) * ACCUMULATE / number


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    model, loader = build_model(), build_loader()
    optimizer = torch.optim.AdamW(model.parameters(), lr=3e-4, fused=True)
    for epoch in range(1):
        print(epoch, run_epoch(model, loader, optimizer, nn.CrossEntropyLoss()))


main()
