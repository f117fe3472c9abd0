"""What one call took: time on a CPU and off it, bytes read, files opened."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

Result = TypeVar("Result")


@dataclass(frozen=True)
class Cost:
    """One call, or the mean of several.

    Attributes:
        wall_s, cpu_s: The latter of the calling thread and those it waits for.
        queued_s: Time the thread was ready and got no CPU.
        read_bytes: Returned by read calls, from the page cache or not.
        disk_bytes: Fetched from a disk.
        files: Files opened by Python code; a library's own opening in C is not seen.
    """

    wall_s: float
    cpu_s: float
    queued_s: float
    read_bytes: float
    disk_bytes: float
    files: float

    @property
    def quiet_s(self) -> float:
        """What the call would take on a quiet machine: without the time queued for a CPU.

        The queueing is read outside of the wall time, and can be more than what is in it.
        """
        return max(self.wall_s - self.queued_s, min(self.cpu_s, self.wall_s))

    @property
    def blocked_s(self) -> float:
        """Waiting for anything but a CPU: a disk, a server, a lock, a sleep."""
        return max(self.quiet_s - self.cpu_s, 0.0)


class Meter:
    """Measures calls one at a time; about 15 us each, none of it inside the figures."""

    def __init__(self) -> None:
        self._io = _opened("/proc/self/io")
        self._schedule = _opened("/proc/thread-self/schedstat")
        self.opened = 0  # files, since the beginning
        sys.addaudithook(self._on_event)

    def _on_event(self, event: str, arguments: Any) -> None:
        if event == "open" and isinstance(arguments[0], (str, bytes)):
            self.opened += 1

    def measure(self, call: Callable[[], Result]) -> tuple[Result, Cost]:
        """What `call` returns, and its cost; what it raises passes."""
        read, disk = self._reads()
        queued = self._queued_ns()
        opened = self.opened
        cpu = time.process_time_ns()
        start = time.perf_counter_ns()
        result = call()
        wall = time.perf_counter_ns() - start
        cpu = time.process_time_ns() - cpu
        opened = self.opened - opened
        queued = self._queued_ns() - queued
        read_after, disk_after = self._reads()
        own = self._own_read
        cost = Cost(
            wall / 1e9,
            cpu / 1e9,
            queued / 1e9,
            float(max(read_after - read - own, 0)),
            float(disk_after - disk),
            float(opened),
        )
        return result, cost

    def _reads(self) -> tuple[int, int]:
        """`rchar` and `read_bytes` of /proc/self/io, 0 where it is not there."""
        if self._io < 0:
            return 0, 0
        text = os.pread(self._io, 512, 0)
        self._own_read = len(text) + self._queue_read
        fields = dict(line.split(b": ") for line in text.splitlines())
        return int(fields[b"rchar"]), int(fields[b"read_bytes"])

    _own_read = 0
    _queue_read = 0

    def _queued_ns(self) -> int:
        if self._schedule < 0:
            return 0
        text = os.pread(self._schedule, 128, 0)
        self._queue_read = 2 * len(text)
        return int(text.split()[1])


def mean(costs: list[Cost]) -> Cost:
    """The mean of at least one."""
    names = ("wall_s", "cpu_s", "queued_s", "read_bytes", "disk_bytes", "files")
    return Cost(*(sum(getattr(cost, name) for cost in costs) / len(costs) for name in names))


def _opened(path: str) -> int:
    try:
        return os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return -1
