"""Puts the monotonic times of all processes of a run on one clock."""

from __future__ import annotations

from trainprof.profiler.model.records import ProcessInfo, RunInfo


class RunClock:
    """Nanoseconds since the run began, also for processes of other machines.

    Other machines are placed by the pair of clock readings that each process took at its start, so
    they are apart by as much as the clocks of the machines are.
    """

    def __init__(self, run: RunInfo) -> None:
        self._run = run
        self._unix_ns = run.started_unix_s * 1e9 - run.started_ns

    def of(self, info: ProcessInfo) -> int:
        """What is added to a time of this process, in ns."""
        shift_ns = 0.0
        if info.host != self._run.host and {"unix_s", "perf_ns"} <= info.clock.keys():
            shift_ns = info.clock["unix_s"] * 1e9 - info.clock["perf_ns"] - self._unix_ns
        return int(shift_ns) - self._run.started_ns

    @property
    def supervisor(self) -> int:
        """What is added to a time of the supervisor, in ns."""
        return -self._run.started_ns
