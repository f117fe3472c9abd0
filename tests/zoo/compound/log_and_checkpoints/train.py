"""Logs to a slow server at every step, and saves to a slow disk every tenth."""

import io
import logging
import time

import torch
from torch import nn

log = logging.getLogger("run")


class Server(logging.Handler):
    wait_s = 0.0

    def emit(self, record):
        time.sleep(self.wait_s)


class Disk(io.BytesIO):
    def __init__(self, wait_s):
        super().__init__()
        self.wait_s = wait_s

    def flush(self):
        time.sleep(self.wait_s)
        self.wait_s = 0.0


def main(steps=250):
    torch.manual_seed(0)
    torch.set_num_threads(1)
    server = Server()
    log.addHandler(server)
    log.setLevel(logging.INFO)
    log.propagate = False
    model = nn.Sequential(nn.Linear(64, 512), nn.ReLU(), nn.Linear(512, 512), nn.ReLU())
    head = nn.Linear(512, 8)
    model.append(head)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
    started, logged_s, saved_s = time.perf_counter(), 0.0, 0.0
    for step in range(1, steps + 1):
        rows = torch.randn(64, 64)
        loss = nn.functional.cross_entropy(model(rows), rows[:, :8].argmax(1))
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        rest_s = time.perf_counter() - started - logged_s - saved_s
        before = time.perf_counter()
        server.wait_s = max(2 * rest_s - logged_s, 0.0)
        log.info("step %d: %.4f", step, loss.item())
        logged_s += time.perf_counter() - before
        if step % 10 == 0:
            before = time.perf_counter()
            torch.save(model.state_dict(), Disk(max(rest_s - saved_s, 0.0)))
            saved_s += time.perf_counter() - before
    total_s = time.perf_counter() - started
    print(f"loss {loss.item():.4f}; log {logged_s:.2f} s, checkpoints {saved_s:.2f} s")
    print(f"planted share {logged_s / total_s:.4f}")


if __name__ == "__main__":
    main()
