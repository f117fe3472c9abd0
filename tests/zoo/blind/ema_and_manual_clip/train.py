"""Classifier with gradient clipping and an exponential moving average of the weights."""

import time

import torch
from torch import nn


def clip_gradients(parameters, limit):
    total = 0.0
    for p in parameters:
        if p.grad is not None:
            total += p.grad.norm().item() ** 2
    scale = limit / (total**0.5 + 1e-6)
    for p in parameters:
        if p.grad is not None:
            p.grad.mul_(min(1.0, scale))


class EMA:
    def __init__(self, model, decay=0.999):
        self.decay = decay
        self.shadow = {name: p.detach().clone() for name, p in model.named_parameters()}

    @torch.no_grad()
    def update(self, model):
        for name, p in model.named_parameters():
            new = self.decay * self.shadow[name] + (1.0 - self.decay) * p
            self.shadow[name] = new.clone()


def make_model(depth=60, width=48):
    layers = []
    for _ in range(depth):
        layers += [nn.Linear(width, width), nn.Tanh()]
    return nn.Sequential(*layers, nn.Linear(width, 4))


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x = torch.randn(2000, 48)
    y = torch.randint(4, (2000,))
    model = make_model()
    parameters = list(model.parameters())
    optimizer = torch.optim.SGD(parameters, lr=0.01, momentum=0.9, fused=True)
    ema = EMA(model)
    start = time.perf_counter()
    for step in range(400):
        rows = torch.randint(2000, (64,))
        loss = nn.functional.cross_entropy(model(x[rows]), y[rows])
        optimizer.zero_grad()
        loss.backward()
        clip_gradients(parameters, 1.0)
        optimizer.step()
        ema.update(model)
        if step % 100 == 0:
            print(f"step {step} loss {loss.item():.4f}")
    print(f"elapsed {time.perf_counter() - start:.2f} s")


if __name__ == "__main__":
    main()
