"""NVTX ranges follow the marks: steps by handle, phases within each other, always ended."""

from __future__ import annotations

import threading
from types import SimpleNamespace

import pytest
import torch

from trainprof.profiler.agent import guard, nvtx_ranges
from trainprof.profiler.agent import marks as m
from trainprof.profiler.agent.nvtx_ranges import NvtxRanges
from trainprof.profiler.agent.recorder import Recorder
from trainprof.profiler.model.phases import PHASE_INDEX


class FakeNvtx:
    """torch.cuda.nvtx of a build for CUDA."""

    def __init__(self):
        self.calls = []
        self.depth = 0

    def mark(self, text):
        pass

    def range_push(self, text):
        self.depth += 1
        self.calls.append(f"+ {text.removeprefix('trainprof: ')}")

    def range_pop(self):
        self.depth -= 1
        assert self.depth >= 0
        self.calls.append("-")

    def range_start(self, text):
        self.calls.append(f"[ {text.removeprefix('trainprof: ')}")
        return 17

    def range_end(self, handle):
        assert handle == 17
        self.calls.append("]")


@pytest.fixture
def nvtx():
    return FakeNvtx()


@pytest.fixture
def recorder():
    return Recorder()


@pytest.fixture
def ranges(recorder, nvtx):
    ranges = NvtxRanges(recorder, SimpleNamespace(cuda=SimpleNamespace(nvtx=nvtx)))
    ranges.install()
    return ranges


@pytest.fixture(autouse=True)
def fresh_guard():
    guard.reset()
    yield
    guard.reset()


def leave(recorder, *kinds):
    for kind in kinds:
        recorder.mark(kind)


STEP = (m.ASK, m.GOT, m.FORWARD, m.FORWARD_END, m.BACKWARD, m.BACKWARD_END, m.ZERO_GRAD)
STEP += (m.ZERO_GRAD_END, m.OPTIMIZER, m.OPTIMIZER_END)
PHASES = ["+ data wait", "-", "+ forward", "-", "+ backward", "-", "+ zero grad", "-"]
PHASES += ["+ optimizer", "-"]


def test_steps_and_phases(recorder, ranges, nvtx):
    leave(recorder, *STEP, *STEP, m.ASK, m.END, m.FINISH)
    assert nvtx.calls == [
        "[ step 0",
        *PHASES,
        "]",
        "[ step 1",
        *PHASES,
        "]",
        "[ step 2",
        "+ data wait",
        "-",
        "]",
    ]
    assert nvtx.depth == 0
    assert len(recorder.marks) == 2 * len(STEP) + 3


def test_accumulation_and_a_loop_without_a_loader(recorder, ranges, nvtx):
    leave(recorder, *STEP[:6], *STEP)
    assert [one for one in nvtx.calls if one[0] == "["] == ["[ step 0"]
    leave(recorder, *STEP[2:], *STEP[2:])
    assert [one for one in nvtx.calls if one[0] == "["] == ["[ step 0", "[ step 1", "[ step 2"]


def test_what_was_left_by_an_error_is_ended(recorder, ranges, nvtx):
    leave(recorder, m.ASK, m.GOT, m.FORWARD, m.SAVE)  # never closed
    leave(recorder, m.FORWARD_END)
    assert nvtx.depth == 0
    leave(recorder, m.OPTIMIZER, m.OPTIMIZER_END, m.FORWARD, m.ASK, m.GOT)
    ranges.close()
    assert nvtx.depth == 0
    assert nvtx.calls.count("]") == 2
    leave(recorder, m.BACKWARD_END)  # never opened
    assert nvtx.depth == 0


def test_phases_by_hand_have_their_names(recorder, ranges, nvtx):
    recorder.mark(m.PHASE, PHASE_INDEX["data_wait"])
    recorder.mark(m.PHASE_END, PHASE_INDEX["data_wait"])
    recorder.mark(m.PHASE, -1)
    recorder.mark(m.PHASE_END, -1)
    assert nvtx.calls == ["+ data wait", "-", "+ phase", "-"]


def test_another_thread_is_not_followed(recorder, ranges, nvtx):
    thread = threading.Thread(target=leave, args=(recorder, *STEP))
    thread.start()
    thread.join()
    assert nvtx.calls == []
    assert len(recorder.marks) == len(STEP)


def test_an_error_ends_the_ranges_and_not_the_training(recorder, ranges, nvtx):
    nvtx.range_push = None
    ranges._push = None
    leave(recorder, *STEP)
    assert len(recorder.marks) == len(STEP)
    assert [name for name, _, _ in guard.failures] == ["nvtx"]


def test_uninstalled_it_leaves_the_recorder_as_it_was(recorder, ranges, nvtx):
    assert recorder.append != recorder.marks.append
    ranges.uninstall()
    leave(recorder, *STEP)
    assert nvtx.calls == []
    assert recorder.append == recorder.marks.append


def test_without_nvtx_it_is_said(recorder, monkeypatch):
    monkeypatch.setattr(nvtx_ranges, "LIBRARIES", ("libnosuchthing.so.1",))
    guard.attempt("nvtx", NvtxRanges(recorder, torch).install)
    assert guard.error_of("nvtx") == (
        "RuntimeError: neither this torch nor a libnvToolsExt.so has NVTX"
    )
    assert recorder.append == recorder.marks.append
