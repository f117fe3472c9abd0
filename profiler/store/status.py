"""How a run ended, or whether it still goes on."""

from __future__ import annotations

import os
import time
from pathlib import Path

from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.store.layout import PROCESSES_FOLDER

START_TOLERANCE_S = 2.0
"""A process that started later than the run by more than this took over the supervisor's id."""

SILENCE_S = 60.0
"""A run on another machine counts as running while a file is younger than this."""


def read_status(info: RunInfo, folder: Path) -> str:
    """One of complete | crashed | stopped | running | incomplete.

    "incomplete" is a run whose supervisor was killed before it could write how the run ended.
    """
    if info.status != "running":
        return info.status
    if info.host is not None and info.host != os.uname().nodename:
        return "running" if _is_fresh(folder) else "incomplete"
    alive = is_supervised(info.supervisor_pid, info.started_unix_s)
    return "running" if alive else "incomplete"


def is_supervised(pid: int | None, started_unix_s: float) -> bool:
    """Whether the process that wrote its id at that time is alive, on this machine."""
    import psutil

    if pid is None:
        return False
    try:
        process = psutil.Process(pid)
        is_alive = process.status() != psutil.STATUS_ZOMBIE
        return is_alive and process.create_time() <= started_unix_s + START_TOLERANCE_S
    except (psutil.Error, ValueError):
        return False


def _is_fresh(folder: Path) -> bool:
    oldest_s = time.time() - SILENCE_S
    try:
        return any(
            path.stat().st_mtime >= oldest_s for path in folder.glob(f"{PROCESSES_FOLDER}/*/*")
        )
    except OSError:
        return False
