"""The agent's own look at the training thread, and the permission it gives to py-spy."""

import ctypes
import sys
import threading

import pytest

from trainprof.profiler.agent.stacks import EVERY_TICKS, InsideSampler, allow_tracing
from trainprof.profiler.store.layout import STACKS_FILE, STACKS_INSIDE_FILE
from trainprof.profiler.store.lines import Problems
from trainprof.profiler.store.stacks import read_stacks


@pytest.fixture
def training():
    """The ident of a thread that stands still in `a_long_step`."""
    release = threading.Event()

    def a_long_step():
        release.wait()

    thread = threading.Thread(target=a_long_step)
    thread.start()
    yield thread.ident
    release.set()
    thread.join()


@pytest.fixture
def sampler(tmp_path, monkeypatch):
    def make(wanted):
        monkeypatch.setenv("TRAINPROF_STACKS", wanted)
        folder = tmp_path / "procs" / "node-7-1"
        folder.mkdir(parents=True, exist_ok=True)
        one = InsideSampler(str(tmp_path))
        one.open(str(folder), 0)
        return one

    return make


def functions(folder):
    read = read_stacks(folder, Problems())
    return [{frame.function.rpartition(".")[2] for frame in one.stack} for one in read.samples]


def test_every_second_tick_is_a_look(tmp_path, sampler, training):
    one = sampler("inside")
    for _ in range(EVERY_TICKS * 5):
        one.tick(training)
    one.close()
    seen = functions(tmp_path)
    assert len(seen) == 5
    assert all("a_long_step" in names for names in seen)
    (window,) = read_stacks(tmp_path, Problems()).windows
    assert window.source == "agent"
    assert window.end_ns > window.start_ns


def test_nothing_is_seen_while_py_spy_does_it(tmp_path, sampler, training):
    one = sampler("outside")
    for _ in range(50):
        one.tick(training)
    one.close()
    assert functions(tmp_path) == []


def test_it_takes_over_when_the_supervisor_asks(tmp_path, sampler, training):
    one = sampler("outside")
    one.tick(training)
    (tmp_path / STACKS_INSIDE_FILE).touch()
    for _ in range(30):
        one.tick(training)
    one.close()
    assert functions(tmp_path)


def test_unwanted_it_does_nothing(tmp_path, sampler, training):
    one = sampler("")
    (tmp_path / STACKS_INSIDE_FILE).touch()
    for _ in range(30):
        one.tick(training)
    one.close()
    assert not list(tmp_path.rglob(STACKS_FILE))


def test_the_training_thread_never_looks_at_itself(tmp_path, sampler):
    one = sampler("inside")
    for _ in range(10):
        one.tick(threading.get_ident())  # as before a fork
    one.close()
    assert functions(tmp_path) == []


def test_the_thread_stays_known_after_the_recorder_has_closed(sampler, training):
    one = sampler("inside")
    one.tick(training)
    one.tick(0)
    assert one.thread == training


def test_the_permission_names_the_supervisor(sampler, monkeypatch):
    calls = []

    class Library:
        def prctl(self, option, pid, *rest):
            calls.append((option, pid.value))

    monkeypatch.setattr(ctypes, "CDLL", lambda name: Library())
    sampler("4711")
    assert calls == [(0x59616D61, 4711)]


@pytest.mark.skipif(sys.platform != "linux", reason="prctl is Linux's")
def test_a_kernel_that_knows_no_such_permission_is_no_error():
    allow_tracing(1)


def test_a_file_that_cannot_be_written_is_left_to_the_guard(tmp_path, sampler, training):
    one = sampler("inside")
    (tmp_path / "procs" / "node-7-1" / STACKS_FILE).mkdir()
    for _ in range(EVERY_TICKS * 2):
        one.tick(training)
    with pytest.raises(OSError, match="directory"):
        one.flush()
