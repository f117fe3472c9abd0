"""Writes a look at the machine, the process tree and the GPUs every half second: host.jsonl.

A thread of the supervisor; nothing of it runs inside the training.
"""

from __future__ import annotations

import threading
import time
from pathlib import Path
from typing import TYPE_CHECKING

from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.model.records import GpuSample, MachineSample, ProcessSample, Sample
from trainprof.profiler.samplers.notes import SAMPLER_ERRORS
from trainprof.profiler.store.appended_file import AppendedFile
from trainprof.profiler.store.layout import FORMAT, HOST_FILE

if TYPE_CHECKING:
    from trainprof.profiler.samplers.gpu_thread import GpuThread
    from trainprof.profiler.samplers.host import HostSampler

DOUBLES_EVERY_S = 120.0
"""The interval doubles after each two minutes ..."""

INTERVAL_MAX_S = 2.0
"""... up to this in the first hour ..."""

LATER_AFTER_S = 3600.0
LATER_INTERVAL_MAX_S = 5.0
"""... and up to this after it."""

HOUR_BYTES_MAX = 32_000_000
"""Looks at hundreds of processes are taken more seldom, so that an hour needs no more than this."""

COST_SHARE_MAX = 0.01
"""The same for looks that cost CPU time: no more than this part of one core."""

STOP_WAIT_S = 0.04
"""`stop` waits so long for the last look; a slower one is written behind its back."""


def next_interval_s(elapsed_s: float, first_s: float) -> float:
    """How long to wait after a look taken `elapsed_s` into the run."""
    longest_s = INTERVAL_MAX_S if elapsed_s < LATER_AFTER_S else LATER_INTERVAL_MAX_S
    doublings = min(int(elapsed_s // DOUBLES_EVERY_S), 16)
    return min(first_s * (1 << doublings), max(longest_s, first_s))


def affordable_interval_s(look_bytes: int, look_cpu_s: float) -> float:
    """The shortest wait between looks of this size and cost that keeps both limits."""
    return max(look_bytes * 3600 / HOUR_BYTES_MAX, look_cpu_s / COST_SHARE_MAX)


def encode_sample(sample: Sample) -> str:
    """One line of host.jsonl; what was not measured is left out, which the reader takes as None."""
    from trainprof.profiler.store.encoded import encode_json

    line = {
        "at_ns": sample.at_ns,
        "machine": _measured(sample.machine),
        "processes": [_measured(process) for process in sample.processes],
        "gpus": [_measured(gpu) for gpu in sample.gpus],
    }
    return encode_json(line).decode() + "\n"


def _measured(record: MachineSample | ProcessSample | GpuSample) -> dict[str, object]:
    values = ((name, getattr(record, name)) for name in record.__slots__)
    return {name: value for name, value in values if value is not None and value != ()}


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
        header: dict[str, object] = {"format": FORMAT, "interval_s": interval_s}
        self._file = AppendedFile(str(run_folder / HOST_FILE), header, keeps=False)
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainprof-samples", daemon=True)
        self._host: HostSampler | None = None
        self._gpus: GpuThread | None = None
        self._failure: str | None = None

    def start(self) -> None:
        """Starts the thread, which imports what it needs, and returns at once."""
        self._thread.start()

    def stop(self) -> None:
        """Lets the thread take a last sample and end; returns within 50 ms."""
        self._stopping.set()
        self._thread.join(STOP_WAIT_S)

    def statuses(self) -> tuple[CollectorStatus, ...]:
        """What each collector could do: samples (only where they failed), then one by one."""
        own = () if self._failure is None else (self._failed(self._failure),)
        if self._host is None or self._gpus is None:
            reason = "the run ended before the first look"
            return own or (CollectorStatus("samples", "missing", reason),)
        return (*own, *self._host.statuses(), *self._gpus.statuses())

    def _failed(self, reason: str) -> CollectorStatus:
        return CollectorStatus("samples", "failed", reason)

    def _run(self) -> None:
        try:
            self._open_samplers()
            self._record_until_stopped()
        except SAMPLER_ERRORS as error:
            self._failure = f"the samplers ended with {type(error).__name__}: {error}"

    def _open_samplers(self) -> None:
        from trainprof.profiler.samplers.gpu_thread import GpuThread
        from trainprof.profiler.samplers.host import HostSampler

        self._host = HostSampler(self._root_pid)
        self._gpus = GpuThread()

    def _record_until_stopped(self) -> None:
        started_s = time.monotonic()
        cost_before_s = 0.0
        stopping = False
        while True:
            cpu_s = time.thread_time()
            look_bytes = self._record(last=stopping)
            if stopping or look_bytes is None:
                return
            cost_s = time.thread_time() - cpu_s + self._gpus_cost_s()
            # Of two looks the cheaper counts: every tenth also asks for PSS.
            at_least_s = affordable_interval_s(look_bytes, min(cost_s, cost_before_s))
            cost_before_s = cost_s
            wait_s = next_interval_s(time.monotonic() - started_s, self._interval_s)
            stopping = self._stopping.wait(max(wait_s, at_least_s))

    def _gpus_cost_s(self) -> float:
        return 0.0 if self._gpus is None else self._gpus.cost_s

    def _record(self, last: bool) -> int | None:
        """Takes one look and appends it; its size, or None when nothing can be written any more."""
        assert self._host is not None
        assert self._gpus is not None
        at_ns = time.perf_counter_ns()
        machine, processes = self._host.sample()
        gpus = self._gpus.sample(slow_figures=not last)
        line = encode_sample(Sample(at_ns, machine, processes, gpus))
        self._file.lines.append(line)
        try:
            self._file.write()
        except OSError as error:
            self._failure = f"{HOST_FILE} cannot be written ({error.strerror}): no samples since"
            self._file.note_loss(at_ns, self._failure)
            return None
        if last:
            self._file.close()
        return len(line)
