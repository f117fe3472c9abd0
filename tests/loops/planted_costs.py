"""Plants a cost inside every phase and stamps the phase with its own clock.

`--how busy` burns the CPU in Python, "sleep" waits. The stamps, one dictionary of seconds by phase
per step, go to the file `--stamps`. The costs are so large that what lies between the two clocks is
a fifth of the tolerance (5 %) or less, also on a machine that is busy.
"""

import argparse
import contextlib
import json
import logging
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader, Dataset

parser = argparse.ArgumentParser()
parser.add_argument("--how", choices=["busy", "sleep"], default="busy")
parser.add_argument("--stamps", type=Path, required=True)
args = parser.parse_args()

STEPS = 60
stamps = []


def spend(seconds):
    """Spends about so many seconds; the stamp around it says how many they really were."""
    started = time.perf_counter()
    if args.how == "sleep":
        time.sleep(seconds)
    else:
        while time.perf_counter() - started < seconds:
            pass


@contextlib.contextmanager
def stamp(phase):
    """Notes the time of a block under a phase of the current step."""
    started = time.perf_counter()
    yield
    taken = time.perf_counter() - started
    stamps[-1][phase] = stamps[-1].get(phase, 0.0) + taken


class SlowData(Dataset):
    """Reading one sample costs 1.5 ms."""

    def __len__(self):
        return 2 * STEPS

    def __getitem__(self, index):
        spend(0.0015)
        return torch.randn(4), torch.randn(1)


class SlowModel(nn.Module):
    """Its forward costs 3 ms, and the backward of its output 10 ms."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, rows):
        spend(0.003)
        hidden = self.linear(rows)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: spend(0.010))
        return hidden


class SlowSGD(torch.optim.SGD):
    """Its step costs 2 ms, a hook 1 ms."""

    def step(self, closure=None):
        spend(0.002)
        return super().step(closure)


class SlowHandler(logging.Handler):
    """Writing a line costs 8 ms."""

    def emit(self, record):
        spend(0.008)


class SlowToPickle:
    """Saving it costs 20 ms."""

    def __reduce__(self):
        spend(0.020)
        return (str, ())


def validate(model, loader):
    model.eval()
    with torch.no_grad():
        for batch in loader:
            model(batch)
            spend(0.002)
    model.train()


torch.manual_seed(0)
torch.set_num_threads(1)
log = logging.getLogger("planted")
log.setLevel(logging.INFO)
log.addHandler(SlowHandler())
log.propagate = False
validation = DataLoader(torch.randn(4, 4), batch_size=2)
model = SlowModel()
optimizer = SlowSGD(model.parameters(), lr=0.01)
optimizer.register_step_post_hook(lambda *_: spend(0.001))
iterator = iter(DataLoader(SlowData(), batch_size=2))

with tempfile.TemporaryDirectory() as folder:
    for step in range(STEPS):
        started = time.perf_counter()
        stamps.append({})
        with stamp("data_wait"):
            rows, targets = next(iterator)
        with stamp("forward"):
            outputs = model(rows)
        with stamp("loss"):
            spend(0.012)  # the phase also has what lies between the stamps, 0.15 ms or more of it
            loss = ((outputs - targets) ** 2).mean()
        with stamp("backward"):
            loss.backward()
        with stamp("optimizer"):
            optimizer.step()
            optimizer.zero_grad()
        if step % 3 == 1:
            with stamp("checkpoint"):
                torch.save([model.state_dict(), SlowToPickle()], Path(folder) / "model.pt")
        with stamp("logging"):
            log.info("a line")
        if step % 10 == 5:
            with stamp("validation"):
                validate(model, validation)
        spend(0.020)  # what lies between all stamps ends up here as well, 0.2 ms or more of it
        whole = time.perf_counter() - started
        stamps[-1]["residual"] = whole - sum(stamps[-1].values())

args.stamps.write_text(json.dumps(stamps))
print(json.dumps({"steps": STEPS}))
