"""The machine before the first pair: is it quiet enough, and is there memory for the script?"""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainprof.profiler.samplers.cgroup import Cgroup
from trainprof.profiler.samplers.procfs import parse_pressure, read_text

MOST_PRESSURE = 0.20
"""Share of time in which some task waits for a CPU; above it the machine is not quiet."""
LOOK_S = 2.0
"""Length of a look; nothing of ours runs meanwhile, so that what waits belongs to others."""
MOST_WAIT_S = 60.0
"""For a quiet machine; then the tune goes on, with a remark."""
PART_OF_BUDGET = 0.1
"""That may be spent waiting, where that is less."""
MOST_MEMORY = 0.9
"""Of what is free: a script that needs more may push others or itself out."""


@dataclass(frozen=True, slots=True)
class Preflight:
    """What was found.

    Attributes:
        cpu_pressure: Share of time in which others waited for a CPU, at the last look; of a system
            without pressure statistics, how busy the CPUs were. None where neither can be read.
        waited_s: For the machine to become quiet. remarks: For a reader.
    """

    cpu_pressure: float | None
    waited_s: float
    remarks: tuple[str, ...]


def look_at_machine(
    budget_s: float,
    needed_bytes: int | None,
    tell: Callable[[str], None],
    *,
    pressure: Callable[[], float | None] | None = None,
    free_bytes: Callable[[], int] | None = None,
    clock: Callable[[], float] = time.monotonic,
) -> Preflight:
    """Waits for a quiet machine, up to a minute or a tenth of the budget.

    Args:
        budget_s: Of the tune.
        needed_bytes: The most that the unchanged script held; None where that was not seen.
        tell: Is told once that the tune waits.
        pressure: Looks at the CPUs, which takes a moment.
        free_bytes: Of the memory.
        clock: Monotonic seconds.
    """
    pressure = pressure or _cpu_pressure
    started_s = clock()
    most_s = min(MOST_WAIT_S, PART_OF_BUDGET * budget_s)
    seen = pressure()
    if seen is not None and seen > MOST_PRESSURE:
        tell(f"others use the CPUs ({seen:.0%} of the time something waits); waiting for quiet")
        while seen is not None and seen > MOST_PRESSURE and clock() - started_s < most_s:
            seen = pressure()
    waited_s = clock() - started_s
    remarks = []
    if seen is not None and seen > MOST_PRESSURE:
        remarks.append(
            f"others use the CPUs: {seen:.0%} of the time something waits for one, also after "
            f"{waited_s:.0f} s. Equal runs differ the more, and smaller gains cannot be shown."
        )
    free = (free_bytes or free_memory_bytes)()
    if needed_bytes is not None and needed_bytes > MOST_MEMORY * free:
        remarks.append(
            f"the script holds {needed_bytes / 1e9:.1f} GB, and {free / 1e9:.1f} GB are free: "
            "trials may swap, or fail."
        )
    return Preflight(seen, waited_s, tuple(remarks))


def _cpu_pressure() -> float | None:
    before, started_s = _pressure_us(), time.monotonic()
    busy = psutil.cpu_percent(LOOK_S) / 100.0
    after = _pressure_us()
    if before is None or after is None:
        return busy
    return min((after - before) / 1e6 / (time.monotonic() - started_s), 1.0)


def _pressure_us() -> int | None:
    return parse_pressure(read_text(Path("/proc/pressure/cpu"))).get("some")


def free_memory_bytes() -> int:
    """Memory that a process of ours may still take: of the machine, or of its control group."""
    available = int(psutil.virtual_memory().available)
    group = Cgroup(os.getpid()).memory()
    return available if group is None else min(available, group[1])
