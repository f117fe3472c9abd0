"""A record per step for a log server that takes its time to answer."""

import argparse
import logging
import time

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

logger = logging.getLogger("training")


class ServerHandler(logging.Handler):
    """Waits for the server's answer after each record."""

    def __init__(self):
        super().__init__()
        self.answer_s = 0.0

    def emit(self, record):
        self.format(record)
        if self.answer_s > 0:
            time.sleep(self.answer_s)


def main():
    parser = argparse.ArgumentParser()
    parser.add_argument("--share", type=float, default=25, help="per cent of the step")
    parser.add_argument("--steps", type=int, default=300)
    args = parser.parse_args()
    ratio = args.share / (100 - args.share)

    torch.manual_seed(0)
    torch.set_num_threads(1)
    server = ServerHandler()
    logger.addHandler(server)
    logger.setLevel(logging.INFO)
    logger.propagate = False
    rows = torch.randn(48 * args.steps, 128)
    loader = DataLoader(TensorDataset(rows, rows[:, :1].sign()), batch_size=48, shuffle=True)
    model = nn.Sequential(
        nn.Linear(128, 900), nn.ReLU(), nn.Linear(900, 900), nn.ReLU(), nn.Linear(900, 1)
    )
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01, momentum=0.9)
    started, logged_s = time.perf_counter(), 0.0
    for step, (inputs, targets) in enumerate(loader):
        optimizer.zero_grad()
        loss = nn.functional.soft_margin_loss(model(inputs), targets)
        loss.backward()
        optimizer.step()
        before = time.perf_counter()
        server.answer_s = max(ratio * (before - started - logged_s) - logged_s, 0.0)
        logger.info("step %d loss %.4f", step, loss.item())
        logged_s += time.perf_counter() - before
    total_s = time.perf_counter() - started
    print(f"{args.steps} steps in {total_s:.2f} s")
    print(f"planted share {logged_s / total_s:.4f}")


if __name__ == "__main__":
    main()
