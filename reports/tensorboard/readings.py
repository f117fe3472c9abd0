"""What a look at the machine tells, as values by the name of their curve."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping

from trainprof.profiler.model.records import MachineSample, Sample
from trainprof.reports.machine_readings import GPU, MACHINE

_RATES: Mapping[str, Callable[[MachineSample], float | None]] = {
    "machine/disk_read_bytes_per_s": lambda one: one.disk_read_total_bytes,
    "machine/disk_written_bytes_per_s": lambda one: one.disk_write_total_bytes,
    "machine/network_received_bytes_per_s": lambda one: one.net_received_total_bytes,
    "machine/network_sent_bytes_per_s": lambda one: one.net_sent_total_bytes,
}


class Readings:
    """Turns looks at the machine into values; rates need the look before.

    Args:
        pid: The training process, whose resident memory is shown.
    """

    def __init__(self, pid: int | None) -> None:
        self._pid = pid
        self._before: Sample | None = None

    def values(self, sample: Sample) -> dict[str, float]:
        """What was measured; what was not has no value."""
        before, self._before = self._before, sample
        found = dict(self._now(sample))
        if before is not None:
            found |= _since(before, sample)
        return found

    def _now(self, sample: Sample) -> Iterator[tuple[str, float]]:
        for reading in MACHINE:
            value = reading.read(sample.machine)
            if value is not None:
                yield f"machine/{reading.name}", float(value)
        if sample.machine.shm_free_bytes is not None:
            yield "machine/shm_free_bytes", float(sample.machine.shm_free_bytes)
        for process in sample.processes:
            if process.pid == self._pid:
                yield "training/resident_bytes", float(process.rss_bytes)
        for gpu in sample.gpus:
            for of_gpu in GPU:
                value = of_gpu.read(gpu)
                if value is not None:
                    yield f"gpu_{gpu.index}/{of_gpu.name}", float(value)


def _since(before: Sample, after: Sample) -> Iterator[tuple[str, float]]:
    """Rates between two looks; a counter that fell has started again and tells nothing."""
    seconds = (after.at_ns - before.at_ns) / 1e9
    if seconds <= 0:
        return
    for name, read in _RATES.items():
        earlier, later = read(before.machine), read(after.machine)
        if earlier is not None and later is not None and later >= earlier:
            yield name, (later - earlier) / seconds
    cpu_before_s = {one.pid: one.cpu_total_s for one in before.processes}
    used_s = [
        one.cpu_total_s - cpu_before_s[one.pid]
        for one in after.processes
        if one.cpu_total_s >= cpu_before_s.get(one.pid, float("inf"))
    ]
    if used_s:
        yield "training/cpu_cores", sum(used_s) / seconds
