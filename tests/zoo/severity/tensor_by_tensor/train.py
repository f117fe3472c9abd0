"""Adam over so many small tensors that walking through them takes a given share of the step."""

import argparse
import time

import torch
from torch import nn


class Mixture(nn.Module):
    """A body, and many small scales that are applied at once."""

    def __init__(self, width, scales):
        super().__init__()
        self.body = nn.Sequential(
            nn.Linear(64, width),
            nn.ReLU(),
            nn.Linear(width, width),
            nn.ReLU(),
            nn.Linear(width, 16),
        )
        self.scales = nn.ParameterList(torch.ones(16) for _ in range(scales))

    def forward(self, rows):
        out = self.body(rows)
        return out if not len(self.scales) else out * torch.stack(list(self.scales)).mean(0)


def seconds(function, repeats=12):
    """The median CPU time of some calls, after a few that warm up."""
    times = []
    for _ in range(repeats + 3):
        started = time.thread_time()
        function()
        times.append(time.thread_time() - started)
    return sorted(times[3:])[repeats // 2]


def train_step(model, optimizer, rows, targets):
    optimizer.zero_grad()
    loss = nn.functional.mse_loss(model(rows), targets)
    loss.backward()
    optimizer.step()
    return loss


def lost_seconds(model):
    """What one update loses by going tensor by tensor."""
    tensors = [nn.Parameter(parameter.detach().clone()) for parameter in model.parameters()]
    for tensor in tensors:
        tensor.grad = torch.full_like(tensor, 0.01)
    loop, fused = (torch.optim.Adam(tensors, fused=fused) for fused in (False, True))
    return seconds(loop.step) - seconds(fused.step)


def fused_step_seconds(model, rows, targets):
    optimizer = torch.optim.Adam(model.parameters(), fused=True)
    return seconds(lambda: train_step(model, optimizer, rows, targets))


def scales_for(share, width, rows, targets):
    """How many small tensors lose so much: a share of everything, themselves included."""
    plain, some = Mixture(width, 0), Mixture(width, 150)
    plain_s, plain_lost_s = fused_step_seconds(plain, rows, targets), lost_seconds(plain)
    each_s = (fused_step_seconds(some, rows, targets) - plain_s) / 150
    lost_s = (lost_seconds(some) - plain_lost_s) / 150
    wanted_s = share * (plain_s + plain_lost_s) - plain_lost_s
    scales = wanted_s / max(lost_s - share * (lost_s + each_s), lost_s / 8)
    return min(max(round(scales), 0), 1000)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=25, help="per cent of the step")
    parser.add_argument("--steps", type=int, default=250)
    args = parser.parse_args()

    torch.manual_seed(0)
    torch.set_num_threads(1)
    width, batch = 128, 4096 if args.share <= 10 else 512
    rows, targets = torch.randn(batch, 64), torch.randn(batch, 16)
    model = Mixture(width, scales_for(args.share / 100, width, rows, targets))
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-3)
    started = time.thread_time()
    for _ in range(args.steps):
        loss = train_step(model, optimizer, rows[torch.randperm(batch)], targets)
    total_s = time.thread_time() - started
    print(f"loss {loss.item():.4f}, {len(model.scales)} small tensors, {total_s:.2f} s")
    print(f"planted share {lost_seconds(model) * args.steps / total_s:.4f}")


if __name__ == "__main__":
    main()
