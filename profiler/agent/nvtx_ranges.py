"""NVTX ranges of steps and phases, so that `nsys profile trainprof run --nvtx ...` shows them.

Only with `run --nvtx`: then each mark passes here on its way to the recorder, which takes it some
microseconds. Phases are pushed and popped, as they lie within each other like the calls that they
are. Steps are started and ended by handle: what the script pushes itself may span a step's end.
"""

from __future__ import annotations

from collections.abc import Callable
from threading import get_ident
from typing import Any

from ..model.phases import PHASES
from . import guard
from . import marks as m
from .recorder import Mark, Recorder

COLLECTOR = "nvtx"
LIBRARIES = ("libnvToolsExt.so.1", "libnvToolsExt.so")
_NAMES = {
    m.ASK: "data wait",
    m.ITERATOR: "loader start",
    m.TO_DEVICE: "host to device",
    m.FORWARD: "forward",
    m.BACKWARD: "backward",
    m.OPTIMIZER: "optimizer",
    m.ZERO_GRAD: "zero grad",
    m.SCALER: "gradient scaler",
    m.SYNC: "synchronisation",
    m.COMPILE: "compile",
    m.SAVE: "checkpoint",
    m.LOG: "logging",
    m.PHASE: "phase",
}
_CLOSES = {kind + 1: kind for kind in _NAMES} | {m.END: m.ASK}
_UPDATES = frozenset({m.OPTIMIZER_END, m.UPDATE, m.STEP})
_BEGINS = frozenset({m.ASK, m.FORWARD})
"""The first of them after an update begins a step."""


class NvtxRanges:
    """Follows the marks of the training thread.

    Args:
        recorder: Its `append` is replaced, so this comes before the hooks, which bind it.
        torch: The user's torch.
    """

    def __init__(self, recorder: Recorder, torch: Any) -> None:
        self._recorder = recorder
        self._torch = torch
        self._begin()

    def _begin(self) -> None:
        self._open: list[int] = []
        self._step: Any = None
        self._number = 0
        self._due = True  # the next beginning is that of a step

    def install(self) -> None:
        """Has the marks pass here; an error tells that there is no NVTX."""
        self._push, self._pop, self._start, self._end = _functions(self._torch)
        add, follow, attempt = self._recorder.append, self._follow, guard.attempt

        def append(mark: Mark) -> None:
            add(mark)
            attempt(COLLECTOR, follow, mark[0], mark[2])

        self._recorder.append = append

    def after_fork(self) -> None:
        """The parent's ranges are not the child's."""
        self._begin()

    def close(self) -> None:
        """Ends what is open, as far as the calling thread can."""
        if get_ident() == self._recorder.thread:
            self._pop_all()
        self._end_step()

    def uninstall(self) -> None:
        """Leaves the recorder as it was."""
        self._recorder.append = self._recorder.marks.append

    def _follow(self, kind: int, object_id: int) -> None:
        if get_ident() != self._recorder.thread:
            return
        if kind in _BEGINS and self._due:
            self._pop_all()
            self._end_step()
            self._step = self._start(f"trainprof: step {self._number}")
            self._number += 1
            self._due = False
        name = _NAMES.get(kind)
        if name is not None:
            if kind == m.PHASE and 0 <= object_id < len(PHASES):
                name = PHASES[object_id].replace("_", " ")
            self._open.append(kind)
            self._push(f"trainprof: {name}")
        elif _CLOSES.get(kind) in self._open:
            while self._open.pop() != _CLOSES[kind]:
                self._pop()
            self._pop()
        if kind in _UPDATES:
            self._due = True
        elif kind == m.FINISH:
            self.close()

    def _pop_all(self) -> None:
        while self._open:
            self._open.pop()
            self._pop()

    def _end_step(self) -> None:
        step, self._step = self._step, None
        if step is not None:
            self._end(step)


_Functions = tuple[
    Callable[[str], Any], Callable[[], Any], Callable[[str], Any], Callable[[Any], Any]
]


def _functions(torch: Any) -> _Functions:
    """Those that push, pop, start and end a range: of torch, or of NVIDIA's library.

    Raises:
        RuntimeError: there are none.
    """
    nvtx: Any = getattr(torch.cuda, "nvtx", None)
    try:
        nvtx.mark("trainprof")  # a torch for the CPU has the functions, and they raise
        return nvtx.range_push, nvtx.range_pop, nvtx.range_start, nvtx.range_end
    except (AttributeError, RuntimeError):
        return _of_library()


def _of_library() -> _Functions:
    from ctypes import CDLL, c_char_p, c_uint64

    for name in LIBRARIES:
        try:
            library = CDLL(name)
            pop, end = library.nvtxRangePop, library.nvtxRangeEnd
            push, start = library.nvtxRangePushA, library.nvtxRangeStartA
        except (OSError, AttributeError):
            continue
        push.argtypes = start.argtypes = [c_char_p]
        start.restype, end.argtypes = c_uint64, [c_uint64]
        return _of_text(push), pop, _of_text(start), end
    raise RuntimeError("neither this torch nor a libnvToolsExt.so has NVTX")


def _of_text(function: Any) -> Callable[[str], Any]:
    return lambda text: function(text.encode())
