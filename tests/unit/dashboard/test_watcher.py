"""The threads behind the screen: what they follow, and when they have it diagnosed."""

import threading
import time
from dataclasses import replace

import pytest
from run_writer import RunWriter
from test_screen import DIAGNOSIS, Asked
from tune_writer import TuneWriter

from trainprof.profiler.model.tune_progress import TuneEnded, TuneRun
from trainprof.profiler.store.tail import RunTail
from trainprof.profiler.store.tune_progress import TuneTail
from trainprof.reports.dashboard import watcher
from trainprof.reports.dashboard.messages import Diagnosed, Looked, Tuned
from trainprof.reports.dashboard.watcher import Watcher

TRIAL = "trials/001-unchanged/run"


class Screen:
    """Takes what a watcher posts, at once; counts how often it had the run diagnosed.

    `recorded` is what the run folder holds as its diagnosis.
    """

    def __init__(self, tail, tune=None):
        self.messages = []
        self.asked = 0
        self.recorded = None
        self.new = threading.Condition()
        services = Asked().services()
        services = replace(services, diagnose=self._diagnose, recorded=lambda: self.recorded)
        self.watcher = Watcher(tail, services, self._take, tune)

    def _diagnose(self):
        self.asked += 1
        return DIAGNOSIS

    def _take(self, message):
        with self.new:
            self.messages.append(message)
            self.new.notify_all()
        if isinstance(message, Looked):
            self.watcher.taken()

    def wait_for(self, is_seen):
        """Waits for a moment in which `is_seen()` is true; the watcher goes on by itself."""
        with self.new:
            assert self.new.wait_for(is_seen, timeout=60.0), self.messages[-5:]

    def count(self, kind):
        return sum(isinstance(one, kind) for one in self.messages)

    def steps(self):
        looks = [one.look for one in self.messages if isinstance(one, Looked)]
        return sum(len(records.steps) for look in looks for records in look.records)


@pytest.fixture
def fast(monkeypatch):
    """Nothing waits for long; `fast["status"]` is that of every run."""
    for name in ("LOOK_EVERY_S", "SLOW_LOOK_EVERY_S", "STATUS_EVERY_S", "IDLE_S"):
        monkeypatch.setattr(watcher, name, 0.01)
    monkeypatch.setattr(watcher, "DIAGNOSE_EVERY_S", 0.01)
    state = {"status": "running"}
    monkeypatch.setattr(watcher, "read_status", lambda *_: state["status"])
    return state


def test_a_run_that_fell_silent_and_goes_on_is_diagnosed_again(tmp_path, fast):
    run = RunWriter(tmp_path / "run").steps(100).flush()
    screen = Screen(RunTail(run.folder))
    screen.watcher.start()
    try:
        screen.wait_for(lambda: screen.count(Diagnosed) >= 1)
        fast["status"] = "incomplete"
        screen.wait_for(lambda: screen.watcher._over.is_set())
        screen.wait_for(lambda: screen.messages[-1].__class__ is Looked)
        fast["status"] = "running"
        screen.wait_for(lambda: not screen.watcher._over.is_set())
        before = screen.count(Diagnosed)
        run.steps(100).flush()
        screen.wait_for(lambda: screen.steps() == 200 and screen.count(Diagnosed) > before)
        fast["status"] = "complete"
        screen.wait_for(lambda: screen.watcher._is_final)
        for thread in screen.watcher._threads:
            thread.join(60.0)
            assert not thread.is_alive()
    finally:
        screen.watcher.stop()


def test_the_run_that_a_tune_has_come_to_is_followed(tmp_path, fast, monkeypatch):
    alive = {"is": True}
    monkeypatch.setattr(
        "trainprof.profiler.store.tune_progress.is_supervised", lambda *_: alive["is"]
    )
    monkeypatch.setattr("trainprof.profiler.store.tune_progress.STATUS_EVERY_S", 0.0)
    tune = TuneWriter(tmp_path, time.time())
    screen = Screen(RunTail(tmp_path / "baseline" / "run"), TuneTail(tmp_path))
    screen.watcher.start()

    def shown():
        told = [one.tune for one in screen.messages if isinstance(one, Tuned)]
        return told[-1] if told else None

    try:
        screen.wait_for(lambda: shown() is not None)
        tune.add(TuneRun("baseline", "baseline/run", 400))
        RunWriter(tmp_path / "baseline" / "run").steps(60).flush()
        screen.wait_for(lambda: screen.steps() == 60)
        tune.add(TuneRun("noise", TRIAL, 36, pair=1, pairs_at_most=4))
        RunWriter(tmp_path / TRIAL).steps(20).flush()
        screen.wait_for(lambda: screen.steps() == 80)
        screen.recorded = DIAGNOSIS  # of the unchanged run, by the tune
        screen.wait_for(lambda: screen.count(Diagnosed) == 1)
        assert shown().run_folder == tmp_path / TRIAL
        assert screen.asked == 0
        alive["is"] = False
        screen.wait_for(lambda: shown().status == "killed")
        screen.wait_for(lambda: screen.steps() == 140)  # back at the unchanged run
        screen.wait_for(lambda: screen.asked == 1)  # nothing is measured any more
        alive["is"] = True
        tune.begin().add(TuneRun("noise", "trials/002-unchanged/run", 36))
        RunWriter(tmp_path / "trials" / "002-unchanged" / "run").steps(7).flush()
        screen.wait_for(lambda: screen.steps() == 147)  # it was resumed
        tune.add(TuneEnded("complete"))
        fast["status"] = "complete"
        screen.wait_for(lambda: shown().status == "complete")
        screen.watcher._threads[0].join(60.0)
        assert not screen.watcher._threads[0].is_alive()
        assert screen.asked == 1
    finally:
        screen.watcher.stop()
