"""Where the trials of a tune run: on this machine, or on a node of a Ray cluster."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import psutil

from trainprof.profiler.sandbox.workplace import Workplace, prepare_workplace
from trainprof.rules.experiments.ray_engine import RayWorkplace, ray_workplace

LOCAL, RAY = "local", "ray"


@dataclass(frozen=True, slots=True)
class TrialPlace:
    """A machine for trials.

    Attributes:
        workplace: Runs commands there. is_here: Whether it is this machine.
        cpus: Processors that a training may use there. memory_bytes: None where unknown.
    """

    workplace: Workplace | RayWorkplace
    is_here: bool
    cpus: int
    memory_bytes: int | None


def trial_place(
    engine: str,
    records: Path,
    folders: Sequence[str],
    *,
    unguarded: bool,
    say: Callable[[str], None],
) -> TrialPlace:
    """The place that `--engine` names; the other arguments are those of `prepare_workplace`.

    Raises:
        UsageError: trials cannot run there.
        MissingExtraError: Ray is not installed.
    """
    if engine == RAY:
        node = ray_workplace(records, folders, unguarded=unguarded)
        return TrialPlace(node, False, node.cpus, node.memory_bytes)
    here = prepare_workplace(records, folders, unguarded=unguarded, say=say)
    return TrialPlace(here, True, usable_cpus(), psutil.virtual_memory().total)


def usable_cpus() -> int:
    """Processors that a training started from here may run on."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
