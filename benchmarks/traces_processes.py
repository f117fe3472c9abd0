"""Whole processes, from start to end: seconds, and the most memory that each had."""

from __future__ import annotations

import os
import subprocess
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field

import psutil

LOOK_S = 0.02
MIB = 1 << 20


@dataclass(frozen=True, slots=True)
class Process:
    """One that has ended.

    Attributes:
        wall_s: From start to end. cpu_s: Of it and of what it waited for. peak_bytes: Most memory.
    """

    wall_s: float
    cpu_s: float
    peak_bytes: int


def run(command: Sequence[str], environment: dict[str, str]) -> Process:
    """Runs a command whose output goes nowhere.

    Raises:
        RuntimeError: it failed.
    """
    begun = time.perf_counter()
    child = subprocess.Popen(
        command, env=environment, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
    )
    _, status, used = os.wait4(child.pid, 0)
    wall_s = time.perf_counter() - begun
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with status {child.returncode}")
    return Process(wall_s, used.ru_utime + used.ru_stime, used.ru_maxrss * 1024)


@dataclass(slots=True)
class Family:
    """A command and the processes that it started.

    Attributes:
        wall_s: From start to end. parent_bytes: Its own peak. worker_bytes: Peak of each other.
    """

    wall_s: float = 0.0
    parent_bytes: int = 0
    worker_bytes: dict[int, int] = field(default_factory=dict)


def run_family(command: Sequence[str], environment: dict[str, str]) -> Family:
    """As `run`, and looks at all processes of its session meanwhile."""
    found = Family()
    begun = time.perf_counter()
    child = subprocess.Popen(
        command,
        env=environment,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
    )
    ended = threading.Event()
    looking = threading.Thread(target=_look, args=(child.pid, found, ended))
    looking.start()
    _, status, used = os.wait4(child.pid, 0)
    found.wall_s = time.perf_counter() - begun
    ended.set()
    looking.join()
    child.returncode = os.waitstatus_to_exitcode(status)
    if child.returncode:
        raise RuntimeError(f"{' '.join(command)} failed with status {child.returncode}")
    found.parent_bytes = used.ru_maxrss * 1024
    found.worker_bytes.pop(child.pid, None)
    return found


def _look(session: int, found: Family, ended: threading.Event) -> None:
    peaks = found.worker_bytes
    while not ended.wait(LOOK_S):
        for pid in psutil.pids():
            try:
                if os.getsid(pid) == session:
                    peaks[pid] = max(peaks.get(pid, 0), psutil.Process(pid).memory_info().rss)
            except (psutil.Error, ProcessLookupError):
                continue
