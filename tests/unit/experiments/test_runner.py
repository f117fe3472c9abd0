"""Trials that go wrong: each is a sentence, the files are as before, and no process is left."""

import os
import signal
import threading
import types

import psutil
import pytest

from trainprof.profiler.model.plan import Plan
from trainprof.profiler.sandbox.availability import why_unavailable
from trainprof.profiler.sandbox.spec import JOURNAL, OVERLAY
from trainprof.profiler.sandbox.workplace import PREFIX, Workplace
from trainprof.rules.experiments import runner as runner_module
from trainprof.rules.experiments.runner import ProcessRunner

CHANGES = "import os, sys, time; open('mine.txt', 'w').write('changed'); os.mkdir('new');"


class Place:
    """A project with trials of its own."""

    def __init__(self, folder, way):
        for name in ("scratch", "records", "project"):
            (folder / name).mkdir()
        self.project, self.records = folder / "project", folder / "records"
        (self.project / "mine.txt").write_text("as it was")
        self.scratch = folder / "scratch" / f"{PREFIX}x"
        self.scratch.mkdir()
        self.workplace = Workplace(self.records, self.scratch, way)
        self.runner = ProcessRunner(("train.py",), self.records, self.workplace, 5)

    def run(self, code):
        (self.project / "train.py").write_text(CHANGES + code)
        return self.runner.run(Plan(()), 10, "unchanged")

    def untouched(self):
        files = {path.name: path.read_text() for path in self.project.glob("*.txt")}
        assert files == {"mine.txt": "as it was"}
        assert sorted(path.name for path in self.project.iterdir()) == ["mine.txt", "train.py"]
        assert working_in(self.project) == []
        return True


def working_in(folder):
    found = []
    for process in psutil.process_iter():
        try:
            if process.cwd() == str(folder) and process.pid != os.getpid():
                found.append(process)
        except psutil.Error:
            continue
    return found


@pytest.fixture(params=[OVERLAY, JOURNAL])
def place(request, tmp_path, monkeypatch):
    reason = why_unavailable(request.param, [tmp_path], [])
    if reason is not None:
        pytest.skip(f"no sandbox of this kind here: {reason}")
    one = Place(tmp_path, request.param)
    monkeypatch.chdir(one.project)
    yield one
    one.workplace.close()
    assert one.untouched()
    assert not one.scratch.exists()
    with open("/proc/mounts") as mounts:
        assert str(tmp_path) not in mounts.read()


def test_a_crash_is_told_with_its_last_line(place):
    trial = place.run("raise ValueError('too large')")
    assert trial.problem == "it ended with exit status 1: ValueError: too large"
    assert place.untouched()


def test_the_system_s_own_kill_is_told_as_such(place):
    trial = place.run("os.kill(os.getpid(), 9)")
    assert "it was killed, as the system does where memory runs out" in trial.problem


def test_memory_that_runs_out_is_told(place):
    code = (
        "import resource; resource.setrlimit(resource.RLIMIT_AS, (1 << 29, 1 << 29));"
        "x = bytearray(1 << 30)"
    )
    assert place.run(code).problem == "it ended with exit status 1: MemoryError"


@pytest.mark.parametrize(
    ("free", "said"),
    [(1 << 30, "exit status 1: it printed nothing"), (0, "exit status 1: the disk of")],
)
def test_nothing_printed_may_be_a_full_disk(tmp_path, monkeypatch, free, said):
    output = tmp_path / "output.txt"
    output.write_text(" \n")
    monkeypatch.setattr(
        runner_module.shutil, "disk_usage", lambda _: types.SimpleNamespace(free=free)
    )
    assert runner_module.how_it_ended(1, output).startswith(said)


def test_one_that_hangs_is_ended_by_what_the_unchanged_one_took(place, monkeypatch):
    monkeypatch.setattr(runner_module, "LEAST_PATIENCE_S", 0.0)
    monkeypatch.setattr(runner_module, "HANGS_AFTER", 1.0)
    place.runner = ProcessRunner(("train.py",), place.records, place.workplace, 5, longest_s=4.0)
    code = "import signal; [signal.signal(one, signal.SIG_IGN) for one in (2, 15)]; time.sleep(600)"
    assert place.run(code).problem == "it hung: no end after 4 s"
    assert place.untouched()


def interrupted_run(place, timer):
    timer.start()
    place.run("time.sleep(600)")


def test_an_interrupt_at_any_moment_leaves_nothing(place):
    """The tune's own interrupt, after random times; the sandbox may not even have begun."""
    for after_s in (0.02, 0.3, 1.2):
        main = (threading.get_ident(), signal.SIGINT)
        timer = threading.Timer(after_s, signal.pthread_kill, main)
        with pytest.raises(KeyboardInterrupt):
            interrupted_run(place, timer)
        timer.join()
        assert place.untouched()


def test_no_trial_starts_that_would_not_fit(place):
    place.runner = ProcessRunner(
        ("train.py",), place.records, place.workplace, 5, needed_bytes=1 << 60
    )
    trial = place.run("")
    assert trial.problem.startswith("no trial was started: the script holds 1152921504.6 GB")
    assert not (place.records / "trials").exists()
