"""The machine and the run's processes as the dashboard shows them: gauges and their history."""

from __future__ import annotations

from dataclasses import dataclass, field

from trainprof.profiler.model.records import MachineSample, Sample
from trainprof.reports.dashboard.history import History

_FIRST = ("cpu", "memory", "disk", "network")
STALE_S = 5.0
"""The last sample of a run often lacks what needs two; the one before serves as well."""


@dataclass(slots=True)
class Gauge:
    """One quantity now and over the run.

    Attributes:
        unit: As `reports.numbers.quantity` takes it.
        value: The latest; None where it is not measured.
        full: What a whole bar stands for; None for the largest value seen.
        at_s: When the value was read.
    """

    label: str
    unit: str
    value: float | None = None
    full: float | None = None
    history: History = field(default_factory=lambda: History(0.0))
    at_s: float = 0.0

    def put(self, at_s: float, value: float | None) -> None:
        """Takes a reading; where several in a row could not be taken nothing is shown."""
        if value is not None:
            self.value, self.at_s = value, at_s
            self.history.add(at_s, value)
        elif at_s - self.at_s > STALE_S:
            self.value = None


@dataclass(slots=True)
class Machine:
    """What the samples tell.

    Attributes:
        gauges: By name.
        process_cpu: Cores that each process with its children keeps busy, by process id.
        at_s: Of the latest sample, in seconds of the run.
    """

    gauges: dict[str, Gauge] = field(default_factory=dict)
    process_cpu: dict[int, Gauge] = field(default_factory=dict)
    at_s: float = 0.0
    _before: Sample | None = None

    def ordered(self) -> list[Gauge]:
        """As they are shown: in the same order whatever the first sample held, the GPUs last."""
        last = len(_FIRST)
        names = sorted(self.gauges, key=lambda one: _FIRST.index(one) if one in _FIRST else last)
        return [self.gauges[name] for name in names]

    def take(self, sample: Sample, at_s: float) -> None:
        """Adds a sample at a time of the run."""
        machine = sample.machine
        self._put("cpu", "CPU", "share", at_s, machine.cpu_busy_share, 1.0)
        self._put("memory", "memory", "bytes", at_s, _memory(machine), machine.memory_total_bytes)
        before = self._before
        if before is not None:
            span_s = (sample.at_ns - before.at_ns) / 1e9
            if span_s > 0:
                self._take_rates(sample, before, span_s, at_s)
        self._take_gpus(sample, at_s)
        self.at_s, self._before = at_s, sample

    def _take_rates(self, sample: Sample, before: Sample, span_s: float, at_s: float) -> None:
        now, then = sample.machine, before.machine
        disk = [
            _rate(now.disk_read_total_bytes, then.disk_read_total_bytes, span_s),
            _rate(now.disk_write_total_bytes, then.disk_write_total_bytes, span_s),
        ]
        net = [
            _rate(now.net_received_total_bytes, then.net_received_total_bytes, span_s),
            _rate(now.net_sent_total_bytes, then.net_sent_total_bytes, span_s),
        ]
        self._put("disk", "disk", "bytes/s", at_s, _sum(disk), None)
        self._put("network", "network", "bytes/s", at_s, _sum(net), None)
        earlier = {one.pid: one.cpu_total_s for one in before.processes}
        for one in sample.processes:
            if one.pid in earlier:
                gauge = self.process_cpu.setdefault(one.pid, Gauge("CPU", "cores"))
                gauge.put(at_s, max(0.0, one.cpu_total_s - earlier[one.pid]) / span_s)

    def _take_gpus(self, sample: Sample, at_s: float) -> None:
        for gpu in sample.gpus:
            name = f"gpu{gpu.index}"
            self._put(name, f"GPU {gpu.index}", "share", at_s, gpu.utilization_share, 1.0)
            self._put(
                f"{name}_memory",
                f"GPU {gpu.index} mem",
                "bytes",
                at_s,
                gpu.memory_used_bytes,
                gpu.memory_total_bytes,
            )

    def _put(
        self,
        name: str,
        label: str,
        unit: str,
        at_s: float,
        value: float | None,
        full: float | None,
    ) -> None:
        if value is None and name not in self.gauges:
            return
        gauge = self.gauges.setdefault(name, Gauge(label, unit))
        gauge.full = full
        gauge.put(at_s, value)


def _memory(machine: MachineSample) -> float | None:
    if machine.memory_total_bytes is None or machine.memory_available_bytes is None:
        return None
    return machine.memory_total_bytes - machine.memory_available_bytes


def _rate(now: int | None, before: int | None, span_s: float) -> float | None:
    return None if now is None or before is None else max(0, now - before) / span_s


def _sum(values: list[float | None]) -> float | None:
    known = [value for value in values if value is not None]
    return sum(known) if known else None
