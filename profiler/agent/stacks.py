"""Stacks of the training thread from inside, and the permission to sample them from outside.

py-spy, started by the supervisor, samples better: at any instant, and the DataLoader workers too.
Where the kernel asks for it (Yama's ptrace_scope 1), this process names the supervisor as one who
may look. Where py-spy cannot work, the agent's thread looks at the training thread itself, five
times a second: 30 us a look. It gets its turn where the training thread lets go of the
interpreter, so long calls that release the GIL are seen more often than they should.
"""

from __future__ import annotations

import os
import sys
import threading
from time import perf_counter_ns
from types import FrameType

from ..model.stacks import Frame, StackSample, StackWindow
from ..store.layout import STACKS_FILE, STACKS_INSIDE_FILE
from ..store.stack_file import MOST_FRAMES, StackFile
from .location import absolute_path

EVERY_TICKS = 2
"""Of the agent's thread, ten a second."""

FLUSH_EVERY = 25
"""Looks between two writes."""

BYTES_MAX = 64_000_000

_PR_SET_PTRACER = 0x59616D61  # linux/prctl.h


class InsideSampler:
    """Samples one thread of this process, if the supervisor asks for it.

    Args:
        run: The run folder.
    """

    def __init__(self, run: str) -> None:
        self._run = run
        self._wanted = os.environ.get("TRAINPROF_STACKS") or ""
        self._file: StackFile | None = None
        self._inside = self._wanted == "inside"
        self._folder = ""
        self._ticks = 0
        self._looks = 0
        self._begin_ns = 0
        self._last_ns = 0
        self.thread: int | None = None

    def open(self, folder: str, thread: int) -> None:
        """This process trains, or makes batches, in `thread`; its folder is known."""
        self._folder = folder
        self.thread = thread or self.thread
        if self._wanted.isdecimal():
            allow_tracing(int(self._wanted))

    def tick(self, thread: int) -> None:
        """Called by the agent's thread ten times a second."""
        self.thread = thread or self.thread
        if not self._wanted:
            return
        self._ticks += 1
        if self._inside and self._ticks % EVERY_TICKS == 0:
            self.look()
        elif self._ticks % 20 == 1 and not self._inside:
            self._inside = os.path.exists(os.path.join(self._run, STACKS_INSIDE_FILE))

    def look(self) -> None:
        """Notes where the training thread is now."""
        if self.thread is None or self.thread == threading.get_ident() or not self._folder:
            return
        frame = sys._current_frames().get(self.thread)
        if frame is None:
            return
        now_ns = perf_counter_ns()
        if self._file is None:
            self._file = StackFile(os.path.join(self._folder, STACKS_FILE), now_ns)
            self._begin_ns = self._last_ns = now_ns
        sample = StackSample(
            self._last_ns, now_ns - self._last_ns, os.getpid(), self.thread, _stack(frame)
        )
        self._last_ns = now_ns
        self._file.sample(sample)
        self._looks += 1
        if self._looks % FLUSH_EVERY == 0:
            self.flush()

    def flush(self) -> None:
        """Writes what was seen since the last time."""
        if self._file is None or self._begin_ns == self._last_ns:
            return
        period_ns = EVERY_TICKS * 100_000_000
        self._file.window(StackWindow(self._begin_ns, self._last_ns, period_ns, "agent"))
        self._begin_ns = self._last_ns
        self._file.write()
        if self._file.size > BYTES_MAX:
            self._inside, self._wanted = False, ""

    def close(self) -> None:
        """The training is over."""
        self.flush()
        if self._file is not None:
            self._file.close()
        self._wanted = ""


def allow_tracing(pid: int) -> None:
    """Lets the process `pid` and its children look at this one (prctl(2), PR_SET_PTRACER)."""
    import ctypes

    ctypes.CDLL(None).prctl(_PR_SET_PTRACER, ctypes.c_ulong(pid), 0, 0, 0)


def _stack(innermost: FrameType) -> tuple[Frame, ...]:
    frames: list[Frame] = []
    frame: FrameType | None = innermost
    while frame is not None and len(frames) < MOST_FRAMES:
        code = frame.f_code
        name = getattr(code, "co_qualname", code.co_name)
        frames.append(Frame(name, absolute_path(code.co_filename), frame.f_lineno or 0))
        frame = frame.f_back
    frames.reverse()
    return tuple(frames)
