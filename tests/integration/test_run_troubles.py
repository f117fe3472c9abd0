"""Full disks, kills and scripts that will not stop: nothing is lost that was there."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time

import pytest

pytest.importorskip("torch")

TRAINING = """
import sys, time, torch
torch.set_num_threads(1)
model = torch.nn.Linear(4, 1)
optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
data = torch.utils.data.TensorDataset(torch.randn(200, 4))
def train(epochs=1):
    for _ in range(epochs):
        for (x,) in torch.utils.data.DataLoader(data, batch_size=2):
            optimizer.zero_grad()
            model(x).square().mean().backward()
            optimizer.step()
"""


def environment():
    return {**os.environ, "OMP_NUM_THREADS": "1"}


def run(folder, *options, script="train.py"):
    return subprocess.run(
        [sys.executable, "-m", "trainprof", "run", *options, script],
        cwd=folder,
        env=environment(),
        capture_output=True,
        text=True,
        timeout=120,
    )


@pytest.fixture
def small_disk(tmp_path):
    """A file system of 400 kB, where this machine lets the tests mount one."""
    folder = tmp_path / "disk"
    folder.mkdir()
    mount = subprocess.run(
        ["mount", "-t", "tmpfs", "-o", "size=400k", "tmpfs", str(folder)], capture_output=True
    )
    if mount.returncode:
        pytest.skip("mounting a small file system needs root")
    yield folder
    subprocess.run(["umount", str(folder)], check=True)


def test_training_goes_on_when_the_disk_is_full_and_the_report_says_from_when(tmp_path, small_disk):
    (tmp_path / "train.py").write_text(TRAINING + "train(80); print('trained to the end')\n")
    done = run(tmp_path, "--out", str(small_disk / "run"))
    assert done.returncode == 0
    assert "trained to the end" in done.stdout
    assert "Traceback" not in done.stderr
    told = " ".join(done.stderr.split())
    assert "missing from" in told or "is missing" in told
    assert "No space left" in told


def test_a_disk_that_is_full_from_the_start_is_one_sentence_before_anything_runs(
    tmp_path, small_disk
):
    (tmp_path / "train.py").write_text(TRAINING + "train(2); print('trained to the end')\n")
    free = os.statvfs(small_disk)
    (small_disk / "data").write_bytes(bytes(free.f_bavail * free.f_bsize))
    done = run(tmp_path, "--out", str(small_disk / "run"))
    assert "Traceback" not in done.stderr


@pytest.fixture
def endless(tmp_path):
    """A run, in a session of its own, that goes on until it is killed."""
    (tmp_path / "train.py").write_text(TRAINING + "train(10**6)\n")
    process = subprocess.Popen(
        [sys.executable, "-m", "trainprof", "run", "--out", "run", "train.py"],
        cwd=tmp_path,
        env=environment(),
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    yield process
    if process.poll() is None:
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()


def test_a_killed_trainprof_leaves_a_run_that_says_incomplete(tmp_path, endless):
    deadline = time.monotonic() + 60
    while not any(path.stat().st_size > 5_000 for path in tmp_path.glob("run/procs/*/steps.jsonl")):
        assert time.monotonic() < deadline, "no step was recorded"
        time.sleep(0.05)
    live = subprocess.run(
        [sys.executable, "-m", "trainprof", "diagnose", "run", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    os.killpg(endless.pid, signal.SIGKILL)
    endless.wait()
    after = subprocess.run(
        [sys.executable, "-m", "trainprof", "diagnose", "run", "--format", "json"],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(live.stdout)["run"]["status"] == "running"
    diagnosis = json.loads(after.stdout)
    assert diagnosis["run"]["status"] == "incomplete"
    assert diagnosis["steps"]["count"] > 20


class StubbornChild:
    """Never ends by itself; remembers the signals it was sent."""

    def __init__(self, dies_of):
        self.dies_of = dies_of
        self.signals = []
        self.waited_s = 0.0

    def wait_at_most(self, seconds):
        self.waited_s += seconds
        return self.dies_of in self.signals

    def terminate_tree(self, number):
        self.signals.append(number)


@pytest.mark.parametrize(
    ("dies_of", "expected"),
    [
        (signal.SIGTERM, [signal.SIGTERM]),
        (signal.SIGKILL, [signal.SIGTERM, signal.SIGKILL]),
    ],
)
def test_what_outlives_its_last_step_is_ended(tmp_path, dies_of, expected):
    from trainprof.cli.stopping import stand_by

    (tmp_path / "procs" / "one").mkdir(parents=True)
    (tmp_path / "procs" / "one" / "stopped").touch()
    child = StubbornChild(dies_of)
    stand_by(child, tmp_path)
    assert child.signals == expected
    assert child.waited_s >= 10 * len(expected)


def test_a_swallowed_stop_leaves_the_training_alone(tmp_path):
    """The script catches everything and ends by itself soon after."""
    (tmp_path / "train.py").write_text(
        TRAINING
        + "try:\n    train(10)\nexcept BaseException as error:\n    print(type(error).__name__)\n"
        "print('my own end')\n"
    )
    done = run(tmp_path, "--out", "run", "--steps", "20")
    assert done.returncode == 0
    assert done.stdout == "StopTraining\nmy own end\n"
    assert json.loads((tmp_path / "run" / "run.json").read_text())["stopped_by"] == "steps"


def test_nothing_is_imported_for_the_first_time_while_torch_s_profiler_records_stacks(tmp_path):
    """It reads the names of code that is gone after an import: `events()` died of that."""
    (tmp_path / "train.py").write_text(
        TRAINING
        + """
import torch.profiler.python_tracer
known = set(sys.modules)
with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU], with_stack=True):
    train()
print("imported", sorted(set(sys.modules) - known))
"""
    )

    done = run(tmp_path, "--quiet")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "imported []\n"


def test_torch_s_profiler_may_record_stacks_and_modules_beside_us(tmp_path):
    """It reads `self` out of the frame of whatever is Module.__call__: ours died of that."""
    (tmp_path / "train.py").write_text(
        TRAINING
        + """
class Wrapper(torch.nn.Module):
    def forward(self, module, x):
        return module(x)
with torch.profiler.profile(
    activities=[torch.profiler.ProfilerActivity.CPU], with_stack=True, with_modules=True
) as profile:
    train()
    Wrapper()(module=model, x=torch.ones(2, 4))
print("ended", len(profile.events()) > 100)
"""
    )

    done = run(tmp_path, "--quiet")

    assert done.returncode == 0, done.stderr
    assert done.stdout == "ended True\n"
