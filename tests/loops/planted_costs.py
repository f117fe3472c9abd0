"""Plants a cost in every phase and stamps it with its own clock.

`--how busy` burns the CPU in Python, "sleep" waits. The stamps, one dictionary of seconds by phase
per step, go to the file `--stamps`.
"""

import argparse
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
stamps = [{} for _ in range(STEPS)]
step = 0
names = set()


def spend(phase, seconds):
    """Spends about so many seconds, and notes how many they really were."""
    started = time.perf_counter()
    if args.how == "sleep":
        time.sleep(seconds)
    else:
        while time.perf_counter() - started < seconds:
            pass
    note(phase, started)


def note(phase, started):
    taken = time.perf_counter() - started
    stamps[step][phase] = stamps[step].get(phase, 0.0) + taken


class SlowData(Dataset):
    """Reading one sample costs 1.5 ms."""

    def __len__(self):
        return 2 * STEPS

    def __getitem__(self, index):
        spend("data_wait", 0.0015)
        return torch.randn(4), torch.randn(1)


class SlowModel(nn.Module):
    """Its forward costs 3 ms, and the backward of its output 4 ms."""

    def __init__(self):
        super().__init__()
        self.linear = nn.Linear(4, 1)

    def forward(self, rows):
        spend("forward", 0.003)
        hidden = self.linear(rows)
        if hidden.requires_grad:
            hidden.register_hook(lambda gradient: spend("backward", 0.004))
        return hidden


class SlowSGD(torch.optim.SGD):
    """Its step costs 2 ms, a hook 1 ms."""

    def step(self, closure=None):
        spend("optimizer", 0.002)
        return super().step(closure)


class SlowHandler(logging.Handler):
    """Writing a line costs 3 ms."""

    def emit(self, record):
        spend("logging", 0.003)


class SlowToPickle:
    """Saving it costs 8 ms."""

    def __reduce__(self):
        spend("inside torch.save", 0.008)
        return (str, ())


torch.manual_seed(0)
torch.set_num_threads(1)
log = logging.getLogger("planted")
log.setLevel(logging.INFO)
log.addHandler(SlowHandler())
log.propagate = False
loader = DataLoader(SlowData(), batch_size=2)
validation = DataLoader(torch.randn(4, 4), batch_size=2)
model = SlowModel()
optimizer = SlowSGD(model.parameters(), lr=0.01)
optimizer.register_step_post_hook(lambda *_: spend("optimizer", 0.001))

with tempfile.TemporaryDirectory() as folder:
    for rows, targets in loader:
        outputs = model(rows)
        spend("loss", 0.003)
        loss = ((outputs - targets) ** 2).mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        if step % 3 == 1:
            started = time.perf_counter()
            torch.save([model.state_dict(), SlowToPickle()], Path(folder) / "model.pt")
            note("checkpoint", started)
        log.info("a line")
        if step % 10 == 5:
            before = dict(stamps[step])
            started = time.perf_counter()
            with torch.no_grad():
                model.eval()
                for batch in validation:
                    model(batch)
                    time.sleep(0.002)
                model.train()
            stamps[step] = before
            note("validation", started)
        spend("residual", 0.002)
        # What comes after this line is the next ask, and so the next step.
        step = min(step + 1, STEPS - 1)

args.stamps.write_text(json.dumps(stamps))
print(json.dumps({"steps": STEPS}))
