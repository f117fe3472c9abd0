"""Run folders and records for the tests of the store."""

import dataclasses
import os

import pytest

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import ProcessInfo, RunInfo, StepRecord
from trainprof.profiler.store.folder import write_run_info
from trainprof.profiler.store.writer import ProcessWriter, write_process_info

BASE_NS = 5_000_000_000


class FakeClock:
    """Nanoseconds that pass only when told."""

    def __init__(self, now_ns=BASE_NS):
        self.now_ns = now_ns

    def __call__(self):
        return self.now_ns


@pytest.fixture
def clock():
    return FakeClock()


@pytest.fixture
def make_step():
    """A step whose residual is what the given phases leave."""

    def make(index=0, start_ns=BASE_NS, wall_ns=10_000_000, *, phases=None, **fields):
        phases_ns = dict.fromkeys(PHASES, 0) | (phases or {})
        phases_ns["residual"] = wall_ns - sum(phases_ns.values())
        return StepRecord(index, start_ns, wall_ns, tuple(phases_ns.values()), **fields)

    return make


@pytest.fixture
def make_run(tmp_path, make_step):
    """Writes a run folder: RunInfo fields and, for each process, its ProcessInfo and steps."""

    def make(*processes, folder=None, **fields):
        folder = folder or tmp_path / "run"
        folder.mkdir(parents=True, exist_ok=True)
        info = RunInfo(1, folder.name, ("train.py",), "/", 1000.0, BASE_NS, "0.1")
        write_run_info(folder, dataclasses.replace(info, **{"status": "complete", **fields}))
        for process, steps in processes:
            path = folder / "procs" / f"{process.host}-{process.pid}-{process.started_ns}"
            path.mkdir(parents=True)
            write_process_info(str(path), process)
            writer = ProcessWriter(str(path), BASE_NS)
            for index in range(steps):
                writer.step(make_step(index, process.started_ns + index * 10_000_000))
            writer.close()
        return folder

    return make


@pytest.fixture
def process():
    """A ProcessInfo of the machine `host`."""

    def make(pid, role="trainer", *, start_s=0.0, end_s=None, parent=1, host="host", **fields):
        return ProcessInfo(
            pid=pid,
            parent_pid=parent,
            host=host,
            role=role,
            started_ns=BASE_NS + int(start_s * 1e9),
            ended_ns=None if end_s is None else BASE_NS + int(end_s * 1e9),
            **fields,
        )

    return make


@pytest.fixture
def offline(tmp_path, monkeypatch):
    """Nothing leaves the test, and no file of the user is read or written."""
    for name in [name for name in os.environ if name.startswith("WANDB_")]:
        monkeypatch.delenv(name)
    for name in ("DATA_DIR", "CACHE_DIR", "CONFIG_DIR"):
        monkeypatch.setenv(f"WANDB_{name}", str(tmp_path / "wandb-files"))
    monkeypatch.setenv("HOME", str(tmp_path))
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.chdir(tmp_path)
    yield monkeypatch
    import wandb  # what it has started ends with the test

    wandb.teardown()
