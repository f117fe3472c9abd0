"""Traces of a few steps, taken of real trainings by the installed command."""

import gzip
import json
import subprocess
import sys
import time
from pathlib import Path

import pytest

TRAINING = """
import gc, os, sys, time, torch
from torch import nn
from torch.utils.data import DataLoader, TensorDataset
torch.manual_seed(0)
torch.set_num_threads(1)
if "RANK" in os.environ:
    torch.distributed.init_process_group("gloo")
model = nn.Linear(8, 4)
if "RANK" in os.environ:
    model = nn.parallel.DistributedDataParallel(model)
optimizer = torch.optim.SGD(model.parameters(), lr=0.01)
data = TensorDataset(torch.randn(400_000, 8), torch.randn(400_000, 4))
most, kill_at = int(sys.argv[1]), int(sys.argv[2])
for step, (inputs, targets) in enumerate(DataLoader(data, batch_size=4)):
    if step == most or os.path.exists("enough"):
        break
    if step == kill_at:
        os.kill(os.getpid(), 9)
    optimizer.zero_grad()
    nn.functional.mse_loss(model(inputs), targets).backward()
    optimizer.step()
    time.sleep(0.003)
print(repr(sum(value.sum().item() for value in model.parameters())))
if "RANK" in os.environ:  # gloo's thread must end before the interpreter, or torch 2.13 aborts
    del model
    gc.collect()
    torch.distributed.destroy_process_group()
"""
PATIENCE_S = 150.0  # less than the training lasts: 100,000 steps of 3 ms or more
LAUNCHED = ("-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2")


@pytest.fixture(scope="module")
def script(tmp_path_factory):
    path = tmp_path_factory.mktemp("script") / "train.py"
    path.write_text(TRAINING)
    return path


def traces(folder):
    return sorted((folder / "traces").glob("*.pt.trace.json.gz"))


def steps_of(path):
    events = json.loads(gzip.decompress(path.read_bytes()))["traceEvents"]
    return sorted(event["name"] for event in events if event["name"].startswith("ProfilerStep"))


def test_a_training_that_dies_inside_its_window_says_so(profile, script):
    done = profile([sys.executable, script, 60, 12], "--trace", "10-14", "--no-stacks")
    assert traces(done.folder) == []
    sentence = "The training ended before its trace of steps 10 to 14 was whole."
    assert sentence in done.diagnosis["problems"]


@pytest.mark.parametrize("steps", ["7-3", "1-99", "soon"])
def test_steps_that_are_none_are_a_sentence(profile, script, steps):
    done = profile([sys.executable, script, 5, -1], "--trace", steps)
    assert done.status == 2
    assert "neither auto nor off" in done.stderr
    assert "Traceback" not in done.stderr


class Live:
    """A training in the background, which ends when it is told."""

    def __init__(self, folder, *launcher_and_script):
        self.folder = folder
        self.run = folder / "run"
        options = ("--no-stacks", "--no-probe", "--quiet", "--trace", "20-22")
        self._training = self._start(
            "run", "--out", self.run, *options, "--", sys.executable, *launcher_and_script, -1, -1
        )

    def _start(self, *words):
        command = [sys.executable, "-m", "trainprof", *map(str, words)]
        return subprocess.Popen(
            command, cwd=self.folder, text=True, stdout=subprocess.PIPE, stderr=subprocess.PIPE
        )

    def ask(self, *options):
        asked = self._start("trace", self.run, *options)
        out, err = asked.communicate(timeout=PATIENCE_S)
        return asked.returncode, out, err

    def wait_for_steps(self):
        files = "procs/*/steps.jsonl"
        self.wait_for(lambda: any(path.stat().st_size > 2000 for path in self.run.glob(files)))

    def wait_for(self, is_there):
        until_s = time.monotonic() + PATIENCE_S
        while not is_there():
            assert time.monotonic() < until_s
            time.sleep(0.05)

    def end(self):
        (self.folder / "enough").touch()
        return self._training.communicate(timeout=PATIENCE_S)


@pytest.fixture
def live(tmp_path):
    made = []

    def make(*launcher_and_script):
        made.append(Live(tmp_path, *launcher_and_script))
        return made[-1]

    yield make
    for one in made:
        one.end()


def test_a_trace_on_demand_of_a_live_run(live, script):
    training = live(script)
    training.wait_for_steps()
    status, out, err = training.ask("--steps", "2")
    assert (status, err) == (0, "")
    path = Path(out.splitlines()[0])
    assert len(steps_of(path)) == 2
    (training.run / "trace-request").touch()
    training.wait_for(lambda: len(list(training.run.glob("traces/*.pt.trace.json*"))) == 3)
    training.end()  # the rest is packed then
    assert sorted(len(steps_of(path)) for path in traces(training.run)) == [2, 3, 3]
    (told,) = training.run.glob("traces/*-step-20.pt.trace.json.gz")
    assert steps_of(told) == [f"ProfilerStep#{number}" for number in (20, 21, 22)]
    status, out, err = training.ask()
    assert status == 2
    assert "is over (complete)" in err


def test_two_ranks_are_traced_at_the_same_steps(live, script):
    training = live(*LAUNCHED, script)
    training.wait_for_steps()
    status, out, err = training.ask("--steps", "2")
    assert (status, err) == (0, "")
    one, other = (Path(line) for line in out.splitlines() if Path(line).is_file())
    assert steps_of(one) == steps_of(other)
    assert len(steps_of(one)) == 2
    assert "2 ranks" in out
