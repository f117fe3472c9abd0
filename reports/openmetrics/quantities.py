"""The metrics that are one number of a rank, of the machine or of a GPU, and where it is read.

Names end in their unit as OpenMetrics asks, in base units: seconds, bytes, ratios from 0 to 1.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from trainprof.profiler.model.records import GpuSample, MachineSample
from trainprof.reports import machine_readings
from trainprof.reports.machine_readings import Reading
from trainprof.reports.openmetrics.run_so_far import Trainer

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Quantity(Generic[T]):
    """One metric.

    Attributes:
        name: Without `trainprof_`, and without the `_total` of a counter.
        unit: With which the name ends; "" where it is a plain number.
        read: Gives the value; None where it was not measured.
        counts: Whether it is a counter.
    """

    name: str
    meaning: str
    unit: str
    read: Callable[[T], float | None]
    counts: bool = False


def _seconds(ns: int | None) -> float | None:
    return None if ns is None else ns / 1e9


def _of_us(us: int | None) -> float | None:
    return None if us is None else us / 1e6


BASE_UNITS = {
    "share": ("ratio", 1),
    "bytes": ("bytes", 1),
    "w": ("watts", 1),
    "c": ("celsius", 1),
    "mhz": ("hertz", 1_000_000),
}
"""Unit at the end of a reading's name -> base unit, and how many of these it is."""


def _drawn(of: str, reading: Reading[T]) -> Quantity[T]:
    """A reading that other reports draw curves of."""
    name, _, unit = reading.name.rpartition("_")
    base_unit, scale = BASE_UNITS[unit]

    def read(one: T) -> float | None:
        value = reading.read(one)
        return None if value is None else value * scale

    return Quantity(f"{of}_{name}_{base_unit}", reading.meaning, base_unit, read)


STEPS: tuple[Quantity[Trainer], ...] = (
    Quantity("steps", "Training steps that were completed.", "", lambda one: one.steps, True),
    Quantity(
        "step_seconds",
        "Wall time of all steps.",
        "seconds",
        lambda one: one.wall_ns / 1e9,
        True,
    ),
)
"""Of every rank."""

RANK: tuple[Quantity[Trainer], ...] = (
    Quantity(
        "recent_step_seconds",
        "Mean wall time of the steps that ended in the last 10 s before the latest.",
        "seconds",
        lambda one: one.recent.mean_s,
    ),
    Quantity(
        "samples",
        "Samples in the steps whose batches tell how many they hold.",
        "",
        lambda one: one.samples,
        True,
    ),
    Quantity(
        "recent_samples_per_second",
        "Samples per second of step time, of the steps that ended in the last 10 s before the "
        "latest.",
        "",
        lambda one: one.recent.samples_per_s,
    ),
    Quantity("loss", "The latest loss; NaN where it is not a number.", "", lambda one: one.loss),
    Quantity(
        "loader_ready_batches",
        "Batches that the DataLoader had ready when it was last asked, on about one ask in 16.",
        "",
        lambda one: one.ready,
    ),
)
"""Of the ranks that are shown in full."""

MACHINE: tuple[Quantity[MachineSample], ...] = (
    *(_drawn("machine", one) for one in machine_readings.MACHINE),
    Quantity(
        "machine_memory_size_bytes",
        "Memory of the machine, or the limit of its container.",
        "bytes",
        lambda one: one.memory_total_bytes,
    ),
    Quantity(
        "machine_shm_free_bytes",
        "Free room in /dev/shm, through which loader workers hand over their batches.",
        "bytes",
        lambda one: one.shm_free_bytes,
    ),
    Quantity(
        "machine_disk_read_bytes",
        "Bytes read from disks since the machine started.",
        "bytes",
        lambda one: one.disk_read_total_bytes,
        True,
    ),
    Quantity(
        "machine_disk_written_bytes",
        "Bytes written to disks since the machine started.",
        "bytes",
        lambda one: one.disk_write_total_bytes,
        True,
    ),
    Quantity(
        "machine_network_received_bytes",
        "Bytes received from the network since the machine started.",
        "bytes",
        lambda one: one.net_received_total_bytes,
        True,
    ),
    Quantity(
        "machine_network_sent_bytes",
        "Bytes sent to the network since the machine started.",
        "bytes",
        lambda one: one.net_sent_total_bytes,
        True,
    ),
    Quantity(
        "machine_cpu_pressure_seconds",
        "Time in which some process waited for a CPU (PSI).",
        "seconds",
        lambda one: _of_us(one.psi_cpu_some_total_us),
        True,
    ),
    Quantity(
        "machine_io_pressure_seconds",
        "Time in which some process waited for input or output (PSI).",
        "seconds",
        lambda one: _of_us(one.psi_io_some_total_us),
        True,
    ),
    Quantity(
        "machine_memory_pressure_seconds",
        "Time in which some process waited for memory (PSI).",
        "seconds",
        lambda one: _of_us(one.psi_memory_some_total_us),
        True,
    ),
    Quantity(
        "machine_throttled_seconds",
        "Time in which the container's CPU limit held its processes up.",
        "seconds",
        lambda one: _of_us(one.cgroup_throttled_total_us),
        True,
    ),
)

GPU: tuple[Quantity[GpuSample], ...] = (
    *(_drawn("gpu", one) for one in machine_readings.GPU),
    Quantity(
        "gpu_memory_size_bytes",
        "Memory of the GPU.",
        "bytes",
        lambda one: one.memory_total_bytes,
    ),
    Quantity(
        "gpu_power_limit_watts",
        "Power that it may draw.",
        "watts",
        lambda one: one.power_limit_w,
    ),
    Quantity(
        "gpu_energy_joules",
        "Energy that it has used since its driver was loaded.",
        "joules",
        lambda one: one.energy_total_j,
        True,
    ),
    Quantity(
        "gpu_power_throttled_seconds",
        "Time with lowered clocks for want of power since its driver was loaded.",
        "seconds",
        lambda one: _seconds(one.power_violation_total_ns),
        True,
    ),
    Quantity(
        "gpu_thermal_throttled_seconds",
        "Time with lowered clocks for heat since its driver was loaded.",
        "seconds",
        lambda one: _seconds(one.thermal_violation_total_ns),
        True,
    ),
)
