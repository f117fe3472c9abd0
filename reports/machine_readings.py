"""The readings of the machine and its GPUs that curves are drawn of: one list for all reports."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Generic, TypeVar

from trainprof.profiler.model.records import GpuSample, MachineSample

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Reading(Generic[T]):
    """One quantity.

    Attributes:
        name: With the unit at its end. title: In words, with the unit.
        meaning: In a sentence. read: Gives the value; None where it was not measured.
    """

    name: str
    title: str
    meaning: str
    read: Callable[[T], float | None]


MACHINE: tuple[Reading[MachineSample], ...] = (
    Reading(
        "cpu_busy_share",
        "CPU busy (share)",
        "Part of the CPU cores that the machine keeps busy.",
        lambda one: one.cpu_busy_share,
    ),
    Reading(
        "memory_available_bytes",
        "memory available (bytes)",
        "Memory that could still be had, of the machine or of its container.",
        lambda one: one.memory_available_bytes,
    ),
)
GPU: tuple[Reading[GpuSample], ...] = (
    Reading(
        "utilization_share",
        "use (share)",
        "Part of the time in which a kernel ran, as NVML tells it.",
        lambda one: one.utilization_share,
    ),
    Reading(
        "memory_used_bytes",
        "memory used (bytes)",
        "Memory of the GPU that is in use, by whatever process.",
        lambda one: one.memory_used_bytes,
    ),
    Reading("power_w", "power (W)", "Power that it draws.", lambda one: one.power_w),
    Reading(
        "temperature_c",
        "temperature (°C)",
        "Temperature of the GPU.",
        lambda one: one.temperature_c,
    ),
    Reading(
        "sm_clock_mhz",
        "SM clock (MHz)",
        "Clock of its multiprocessors.",
        lambda one: one.sm_clock_mhz,
    ),
)
