"""Looks at the machine and at the process tree of a run, from outside."""

from __future__ import annotations

from pathlib import Path

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import MachineSample, ProcessSample
from trainprof.profiler.samplers.machine import MachineSampler
from trainprof.profiler.samplers.processes import ProcessTree


class HostSampler:
    """Samples the machine and the tree of `root_pid`.

    Args:
        root_pid: The command that runs; it and all its descendants are the tree.
        proc: Where /proc is.
    """

    def __init__(self, root_pid: int, proc: Path = Path("/proc")) -> None:
        self._machine = MachineSampler(root_pid, proc)
        self._tree = ProcessTree(root_pid, proc)

    def sample(self) -> tuple[MachineSample, tuple[ProcessSample, ...]]:
        """One look; what is missing is None, and never raises."""
        return self._machine.sample(), self._tree.sample()

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What each part could do here: processes, machine, pressure, cgroup."""
        return (*self._tree.statuses(), *self._machine.statuses())
