"""Writes a look at the machine, the process tree and the GPUs every half second: host.jsonl.

A thread of the supervisor; nothing of it runs inside the training.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trainprof.profiler.model.records import CollectorStatus, Sample
from trainprof.profiler.store.appended_file import AppendedFile
from trainprof.profiler.store.layout import FORMAT, HOST_FILE

if TYPE_CHECKING:
    from trainprof.profiler.samplers.gpu import GpuSampler
    from trainprof.profiler.samplers.host import HostSampler

DOUBLES_EVERY_S = 120.0
"""The interval doubles after each two minutes ..."""

INTERVAL_MAX_S = 2.0
"""... up to this in the first hour ..."""

LATER_AFTER_S = 3600.0
LATER_INTERVAL_MAX_S = 5.0
"""... and up to this after it."""

STOP_WAIT_S = 0.05
"""`stop` waits so long for the last look, which is written a little later where it is slow."""


def next_interval_s(elapsed_s: float, first_s: float) -> float:
    """How long to wait after a look taken `elapsed_s` into the run."""
    longest_s = INTERVAL_MAX_S if elapsed_s < LATER_AFTER_S else LATER_INTERVAL_MAX_S
    doublings = min(int(elapsed_s // DOUBLES_EVERY_S), 16)
    return min(first_s * (1 << doublings), max(longest_s, first_s))


class SampleRecorder:
    """Records samples of the tree of `root_pid` until it is stopped.

    Args:
        run_folder: Where host.jsonl is written.
        root_pid: The command that runs.
        interval_s: Between two looks in the first two minutes.
    """

    def __init__(self, run_folder: Path, root_pid: int, interval_s: float = 0.5) -> None:
        self._root_pid = root_pid
        self._interval_s = interval_s
        self._file = AppendedFile(
            str(run_folder / HOST_FILE), {"format": FORMAT, "interval_s": interval_s}, keeps=False
        )
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainprof-samples", daemon=True)
        self._host: HostSampler | None = None
        self._gpus: GpuSampler | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Starts the thread, which imports what it needs, and returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Takes a last sample and ends; returns within 50 ms."""
        self._stopping.set()
        self._thread.join(STOP_WAIT_S)

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What each collector could do, in the order of the reports."""
        if self._failure is not None:
            return (CollectorStatus("samples", "failed", self._failure),)
        if self._host is None or self._gpus is None:
            reason = "the run ended before the first look"
            return (CollectorStatus("samples", "missing", reason),)
        return (*self._host.statuses(), *self._gpus.statuses())

    def _run(self) -> None:
        from trainprof.profiler.samplers.gpu import GpuSampler
        from trainprof.profiler.samplers.host import HostSampler

        self._host = HostSampler(self._root_pid)
        self._gpus = GpuSampler()
        started_s = time.monotonic()
        stopping = False
        while True:
            if not self._record():
                return
            if stopping:
                break
            elapsed_s = time.monotonic() - started_s
            stopping = self._stopping.wait(next_interval_s(elapsed_s, self._interval_s))
        self._file.close()

    def _record(self) -> bool:
        """Takes one look and appends it; False when nothing can be written any more."""
        import msgspec

        assert self._host is not None
        assert self._gpus is not None
        at_ns = time.perf_counter_ns()
        machine, processes = self._host.sample()
        gpus = self._gpus.sample(slow_figures=not self._stopping.is_set())
        line = msgspec.json.encode(Sample(at_ns, machine, processes, gpus)).decode()
        self._file.lines.append(line + "\n")
        try:
            self._file.write()
        except OSError as error:
            reason = f"{HOST_FILE} could not be written ({error.strerror}); no samples since"
            self._failure = reason
            self._file.note_loss(at_ns, reason)
            return False
        return True
