"""Memory of the process, now and at most, and of its accelerator."""

from __future__ import annotations

import os
import sys
from typing import Any

from ...model.facts import MemoryFact


def read_peak_memory(torch: Any) -> MemoryFact:
    """The payload of Fact "memory": the highest resident size so far, and the device's.

    About 40 us on the CPU, and 0.1 ms more in a process with a million Python objects; with CUDA
    about 0.2 ms per device (the allocator's own counters: no synchronisation).
    `accelerator_peak_bytes` is that of the fullest device, None without one.
    """
    fact: MemoryFact = {"accelerator_peak_bytes": _accelerator_peak_bytes(torch)}
    if hasattr(sys, "getallocatedblocks"):  # of CPython
        fact["python_blocks"] = sys.getallocatedblocks()
    peak = _peak_rss_bytes()
    if peak is not None:
        fact["peak_rss_bytes"] = peak
    return fact


def resident_bytes() -> int | None:
    """Resident size of the process now; None where /proc does not tell."""
    try:
        with open("/proc/self/statm", "rb") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    except (OSError, IndexError, ValueError):
        return None


def _peak_rss_bytes() -> int | None:
    try:
        with open("/proc/self/status", "rb") as status:
            for line in status:
                if line.startswith(b"VmHWM:"):
                    return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        import resource
    except ImportError:
        return None
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak if sys.platform == "darwin" else peak * 1024


def _accelerator_peak_bytes(torch: Any) -> int | None:
    """Only where the script has initialised the device: asking must not do it."""
    for name in ("cuda", "xpu"):
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_initialized():
            devices = range(backend.device_count())
            return max((int(backend.max_memory_allocated(i)) for i in devices), default=0)
    return None
