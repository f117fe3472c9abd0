"""Classifier with TensorBoard logging."""

import tempfile
import time

import torch
from torch import nn
from torch.utils.tensorboard import SummaryWriter


class Run:
    def __init__(self, logdir, log_every):
        self.model = nn.Sequential(
            nn.Linear(64, 256), nn.ReLU(), nn.Linear(256, 256), nn.ReLU(), nn.Linear(256, 8)
        )
        self.optimizer = torch.optim.SGD(self.model.parameters(), lr=0.05)
        self.writer = SummaryWriter(logdir)
        self.log_every = log_every

    def train_step(self, step, x, y):
        loss = nn.functional.cross_entropy(self.model(x), y)
        self.optimizer.zero_grad()
        loss.backward()
        self.optimizer.step()
        if step % self.log_every == 0:
            self.log(step, loss)

    def log(self, step, loss):
        self.writer.add_scalar("train/loss", loss.item(), step)
        for name, p in self.model.named_parameters():
            self.writer.add_histogram(f"weights/{name}", p, step)
            self.writer.add_histogram(f"grads/{name}", p.grad, step)


def main():
    torch.manual_seed(0)
    torch.set_num_threads(1)
    x, y = torch.randn(2048, 64), torch.randint(8, (2048,))
    with tempfile.TemporaryDirectory() as logdir:
        run = Run(logdir, log_every=1)
        start = time.perf_counter()
        for step in range(160):
            rows = torch.randint(2048, (512,))
            run.train_step(step, x[rows], y[rows])
        seconds = time.perf_counter() - start
        run.writer.close()
    print(f"160 steps in {seconds:.2f} s")


if __name__ == "__main__":
    main()
