"""The recorder: where the hooks of the training thread leave their marks."""

from __future__ import annotations

import os
import sys
import threading
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import Any

Mark = tuple[Any, ...]


def _never_compiling() -> bool:
    return False


class Recorder:
    """Marks of one training thread.

    The thread that trains appends; the agent's thread takes them away. Nothing here blocks, and
    `deque.append` and `deque.popleft` are atomic.

    Attributes:
        marks: Appended by the training thread, drained by the agent.
        thread: Ident of the thread whose marks count; all others pass straight through.
        closed: True once the agent has ended: hooks that outlive it do nothing.
        detailed: Whether marks carry CPU and run-queue time just now (one step in 16).
        compiling: `torch.compiler.is_dynamo_compiling`; hooks stay invisible while it is true.
    """

    def __init__(self) -> None:
        self.marks: deque[Mark] = deque()
        self.thread = threading.main_thread().ident or threading.get_ident()
        self.closed = False
        self.detailed = False
        self.compiling: Callable[[], bool] = _never_compiling
        self._schedstat: int | None = None

    def active(self) -> bool:
        """Whether a hook that was just entered should leave marks."""
        return not self.closed and threading.get_ident() == self.thread and not self.compiling()

    def mark(self, kind: int, object_id: int = 0, extra: Any = 0) -> None:
        """Appends one mark (see marks.py)."""
        if self.detailed:
            self.marks.append(
                (kind, perf_counter_ns(), object_id, extra, thread_time_ns(), self.run_queue_ns())
            )
        else:
            self.marks.append((kind, perf_counter_ns(), object_id, extra))

    def run_queue_ns(self) -> int:
        """Time the training thread has waited for a CPU so far; -1 where /proc has no schedstat."""
        descriptor = self._schedstat
        if descriptor is None:
            descriptor = self._schedstat = _open_schedstat()
        if descriptor < 0:
            return -1
        try:
            return int(os.pread(descriptor, 64, 0).split()[1])
        except (OSError, IndexError, ValueError):
            self._schedstat = -1
            return -1

    def follow_thread(self) -> None:
        """Makes the calling thread the training thread."""
        self.thread = threading.get_ident()
        self.close_files()

    def close_files(self) -> None:
        """Closes what was opened for the training thread (it is opened again when needed)."""
        if self._schedstat is not None and self._schedstat >= 0:
            os.close(self._schedstat)
        self._schedstat = None


def _open_schedstat() -> int:
    if not sys.platform.startswith("linux"):
        return -1
    try:
        path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
