"""Adam over so many small tensors that walking through them takes a given share of the step."""

import argparse
import time

import torch
from torch import nn


class Mixture(nn.Module):
    """A wide body, and many small scales that are applied at once."""

    def __init__(self, scales):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, 1024), nn.ReLU(), nn.Linear(1024, 1024), nn.ReLU(), nn.Linear(1024, 16)
        )
        self.scales = nn.ParameterList(torch.ones(16) for _ in range(scales))

    def forward(self, rows):
        out = self.body(rows)
        return out if not len(self.scales) else out * torch.stack(list(self.scales)).mean(0)


def seconds(function, repeats=15):
    for _ in range(5):
        function()
    started = time.perf_counter()
    for _ in range(repeats):
        function()
    return (time.perf_counter() - started) / repeats


def train_step(model, optimizer, rows, targets):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(rows), targets)
    loss.backward()
    optimizer.step()
    return loss


def optimizer_seconds(scales, fused):
    """What an update of so many small tensors takes."""
    tensors = [nn.Parameter(torch.ones(16)) for _ in range(scales)]
    for tensor in tensors:
        tensor.grad = torch.full_like(tensor, 0.01)
    return seconds(torch.optim.Adam(tensors, fused=fused).step)


def fused_step_seconds(scales, rows, targets):
    """What a step takes with the implementation that loses nothing."""
    model = Mixture(scales)
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    return seconds(lambda: train_step(model, optimizer, rows, targets))


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=25, help="per cent of the step")
    parser.add_argument("--steps", type=int, default=250)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    rows, targets = torch.randn(64, 64), torch.randn(64, 16)
    plain_s = fused_step_seconds(0, rows, targets)
    each_s = (fused_step_seconds(200, rows, targets) - plain_s) / 200
    lost_s = (optimizer_seconds(200, False) - optimizer_seconds(200, True)) / 200
    share = args.share / 100
    scales = round(share * plain_s / max(lost_s - share * (lost_s + each_s), share * lost_s / 10))

    model = Mixture(scales)
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.perf_counter()
    for _ in range(args.steps):
        loss = train_step(model, optimizer, torch.randn(64, 64), targets)
    total_s = time.perf_counter() - started
    lost_s = optimizer_seconds(scales, False) - optimizer_seconds(scales, True)
    print(f"loss {loss.item():.4f}, {scales} small tensors, {total_s:.2f} s")
    print(f"planted share {lost_s * args.steps / total_s:.4f}")


if __name__ == "__main__":
    main()
