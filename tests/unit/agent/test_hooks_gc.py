import gc
import os
import sys
import threading

import pytest

from trainprof.profiler.agent import hooks_gc
from trainprof.profiler.agent import marks as m


@pytest.fixture
def collector(hooks):
    gc.disable()  # only collections that the test asks for
    yield hooks.install(hooks_gc)
    gc.enable()


class Cycle:
    def __init__(self):
        self.itself = self


def test_manual_collection(hooks, collector):
    cycles = [Cycle() for _ in range(10)]
    del cycles
    line = sys._getframe().f_lineno + 1
    assert gc.collect() >= 10
    assert [(mark[0], mark[3]) for mark in hooks.recorder.marks] == [(m.GC, 2), (m.GC_END, 2)]
    *pauses, summary = collector.take_events()
    assert summary.data["count"] == [0, 0, 1]
    assert summary.data["manual"] == [0, 0, 1]
    assert summary.data["total_ns"][2] > 0
    assert summary.data["where"]["line"] == line
    assert summary.data["where"]["file"] == __file__
    opening, closing = hooks.recorder.marks
    assert 0 < summary.data["total_ns"][2] <= closing[1] - opening[1]
    for pause in pauses:
        assert pause.duration_ns >= hooks_gc.LONG_PAUSE_NS
        assert pause.data["manual"] is True


def test_automatic_collection_is_not_manual(hooks, collector):
    gc.enable()
    threshold = gc.get_threshold()
    gc.set_threshold(10, 5, 5)
    kept = [[] for _ in range(200)]
    gc.set_threshold(*threshold)
    gc.disable()
    assert len(kept) == 200
    summary = collector.take_events()[-1]
    assert summary.data["count"][0] >= 5
    assert summary.data["manual"] == [0, 0, 0]
    assert "where" not in summary.data
    kinds = hooks.kinds()
    assert kinds == [m.GC, m.GC_END] * (len(kinds) // 2)


def test_long_pause_is_an_event(hooks, collector, monkeypatch):
    clock = iter(range(1_000_000, 1_000_000_000, 2_000_000))
    monkeypatch.setattr(hooks_gc, "perf_counter_ns", lambda: next(clock))
    gc.collect(1)
    pause, summary = collector.take_events()
    assert (pause.kind, pause.duration_ns) == ("gc", 2_000_000)
    assert (pause.data["generation"], pause.data["manual"]) == (1, True)
    assert summary.data["count"] == [0, 1, 0]
    assert summary.data["total_ns"] == [0, 2_000_000, 0]


def test_nothing_collected_is_no_event(collector):
    assert collector.take_events() == []


def test_other_threads_and_a_closed_recorder_pass_through(hooks, collector):
    thread = threading.Thread(target=gc.collect)
    thread.start()
    thread.join()
    hooks.recorder.close()
    gc.collect()
    assert hooks.kinds() == []
    assert collector.take_events() == []


def test_wrong_arguments_raise_as_ever(hooks, collector):
    with pytest.raises(TypeError):
        gc.collect("all")
    with pytest.raises(ValueError, match="invalid generation"):
        gc.collect(7)
    assert hooks.kinds() == []


@pytest.mark.filterwarnings("ignore:This process:DeprecationWarning")
def test_forked_child_collects_without_harm(hooks, collector):
    reading, writing = os.pipe()
    pid = os.fork()
    if pid == 0:
        hooks.recorder.close()  # what the agent does in a child
        gc.collect()
        os.write(writing, b"%d" % len(hooks.recorder.marks))
        os._exit(0)
    os.close(writing)
    assert os.read(reading, 10) == b"0"
    os.close(reading)
    assert os.waitpid(pid, 0)[1] == 0


def test_cost_of_a_collection(hooks, collector, nanoseconds_per_call):
    info = {"generation": 0, "collected": 0, "uncollectable": 0}

    def callback():
        collector._callback("start", info)
        collector._callback("stop", info)
        hooks.recorder.marks.clear()

    assert nanoseconds_per_call(callback) < 5_000


@pytest.mark.parametrize(("pause_ns", "marked"), [(49_000, False), (51_000, True)])
def test_brief_pauses_stay_with_the_phase_they_interrupt(
    hooks, collector, monkeypatch, pause_ns, marked
):
    clock = iter([1_000_000, 1_000_000 + pause_ns, 3_000_000])
    monkeypatch.setattr(hooks_gc, "perf_counter_ns", lambda: next(clock))
    collector._collecting("start", {"generation": 0, "collected": 0})
    collector._collecting("stop", {"generation": 0, "collected": 0})
    assert hooks.kinds() == ([m.GC, m.GC_END] if marked else [])
    assert collector.take_events()[-1].data["count"] == [1, 0, 0]
