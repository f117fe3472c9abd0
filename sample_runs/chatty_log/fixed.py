"""Train an autoencoder and keep a log of its gradients."""

import argparse
import logging
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset

log = logging.getLogger("autoencoder")


class Autoencoder(nn.Module):
    """Four linear layers with a narrow middle."""

    def __init__(self, inputs, hidden, code):
        super().__init__()
        self.encoder = nn.Sequential(
            nn.Linear(inputs, hidden), nn.Tanh(), nn.Linear(hidden, code), nn.Tanh()
        )
        self.decoder = nn.Sequential(nn.Linear(code, hidden), nn.Tanh(), nn.Linear(hidden, inputs))

    def forward(self, rows):
        return self.decoder(self.encoder(rows))


def make_rows(rows, inputs):
    """Points near a plane of eight dimensions."""
    generator = torch.Generator().manual_seed(1)
    plane = torch.randn(8, inputs, generator=generator)
    return TensorDataset(torch.randn(rows, 8, generator=generator) @ plane / 3)


def log_step(step, loss, model):
    """Writes the loss and a glance at every gradient."""
    log.info("step %d loss %.5f", step, loss.item())
    for name, parameter in model.named_parameters():
        log.info("%s gradients %s", name, parameter.grad)


def main():
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--rows", type=int, default=10240)
    parser.add_argument("--log-file", type=Path)
    args = parser.parse_args()

    log_file = args.log_file or Path(tempfile.mkdtemp()) / "train.log"
    logging.basicConfig(filename=log_file, level=logging.INFO, format="%(asctime)s %(message)s")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    loader = DataLoader(make_rows(args.rows, 256), batch_size=128, shuffle=True)
    model = Autoencoder(256, hidden=1024, code=32)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05, momentum=0.9, fused=True)
    criterion = nn.MSELoss()

    started = time.perf_counter()
    steps = 0
    for epoch in range(args.epochs):
        for (rows,) in loader:
            optimizer.zero_grad()
            loss = criterion(model(rows), rows)
            loss.backward()
            optimizer.step()
            if steps % 100 == 0:
                log_step(steps, loss, model)
            steps += 1
        print(f"epoch {epoch}: loss {loss.item():.4f}")
    print(f"{steps} steps in {time.perf_counter() - started:.2f} s")


if __name__ == "__main__":
    main()
