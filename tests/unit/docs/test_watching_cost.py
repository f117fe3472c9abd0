"""The benchmark of what watching costs: what it reads of a run, and the page that it writes."""

import importlib
import sys
from dataclasses import replace
from pathlib import Path

import pytest

from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.store.folder import write_run_info

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))


def test_the_means_are_those_of_the_steps_that_were_written(tmp_path):
    arms, writing = importlib.import_module("watching_arms"), importlib.import_module("read_run")
    writing.write_run(tmp_path, 400, 1)
    step_s, thread_s = arms.steady_means(tmp_path)
    assert step_s == pytest.approx(0.012)
    assert thread_s == pytest.approx(0.012 - 4321e-9, abs=1e-7)


class Terminal:
    """Of a run: what was typed, and the run ends once so many looks were taken."""

    pid = 1

    def __init__(self, folder, ends_after):
        self.typed, self._folder, self._left = [], folder, ends_after
        self._info = RunInfo(1, "train", ("train.py",), "/", 0.0, 0, "0")
        write_run_info(folder, self._info)

    def read_nonblocking(self, size, timeout):
        if self.typed:
            raise sys.modules["pexpect"].EOF("left")
        self._left -= 1
        if self._left == 0:
            write_run_info(self._folder, replace(self._info, status="complete"))

    def send(self, key):
        assert self._left <= 0, "a dashboard is left that still shows a training"
        self.typed.append(key)


def test_the_dashboard_is_left_once_the_run_is_over_and_not_before(tmp_path, monkeypatch):
    arms = importlib.import_module("watching_arms")
    (tmp_path / "procs" / "one").mkdir(parents=True)
    (tmp_path / "procs" / "one" / "steps.jsonl").touch()
    # Nothing is known before the training starts, and where a process ended in that moment.
    cpu_s = iter([None, 1.0, None, 2.0, None])
    monkeypatch.setattr(arms, "_watchers_cpu_s", lambda pid: next(cpu_s))
    monkeypatch.setattr(arms, "LOOK_S", 0.0)
    terminal = Terminal(tmp_path, ends_after=5)
    looks = list(arms._looks(terminal, tmp_path, leaves=True))
    assert [used_s for _, used_s in looks] == [1.0, 2.0]
    assert terminal.typed == ["q"]


def test_a_part_that_is_measured_again_leaves_the_others_as_they_are():
    watching = importlib.import_module("watching")
    first = watching.page("", {"lag": ["late"], "steps": ["slow", "", "| 1 |"]})
    again = watching.page(first, {"steps": ["fast"]})
    assert "slow" not in again
    assert again.index("fast") < again.index("late")
    assert watching.page(again, {}) == again
