"""A busy neighbour of our own, and what other programs used anyway."""

from __future__ import annotations

import contextlib
import os
import resource
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path


@contextlib.contextmanager
def busy_neighbour(wanted: bool) -> Iterator[None]:
    """Runs a process beside the block that takes all CPU time it gets, if wanted."""
    if not wanted:
        yield
        return
    burner = subprocess.Popen([sys.executable, "-S", "-c", "while True: pass"])
    try:
        yield
    finally:
        burner.kill()
        burner.wait()


class OtherPrograms:
    """CPU time of everything but the children that this process has waited for meanwhile."""

    def __init__(self) -> None:
        self.started = time.monotonic()
        self.busy_s = _busy_s()

    def cores_used(self) -> float:
        """Mean number of cores since the beginning."""
        return max(_busy_s() - self.busy_s, 0.0) / (time.monotonic() - self.started)


def _busy_s() -> float:
    """CPU time of the whole machine (proc(5), /proc/stat), less that of finished children."""
    words = Path("/proc/stat").read_text(encoding="ascii").split("\n", 1)[0].split()
    user, nice, system, _idle, _iowait, irq, softirq = (int(word) for word in words[1:8])
    busy = (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
    children = resource.getrusage(resource.RUSAGE_CHILDREN)
    return busy - children.ru_utime - children.ru_stime
