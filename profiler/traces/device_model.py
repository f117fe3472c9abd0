"""Which device a trace is of, and whether it has tensor cores."""

from __future__ import annotations

from typing import Any

import msgspec

from trainprof.profiler.traces.devices import Device, find_device
from trainprof.profiler.traces.events import Kind, Trace, distinct
from trainprof.profiler.traces.kernel_names import least_capability
from trainprof.profiler.traces.timeline import Timeline

WITH_TENSOR_CORES = (7, 0)
"""NVIDIA's compute capability from which there are tensor cores."""


class DeviceModel(msgspec.Struct, frozen=True):
    """Which device it is, as far as the trace tells.

    Attributes:
        name: As its driver calls it. sheet: What it can do at most, where its model is known.
        capability: NVIDIA's compute capability; at least that, where `exact` is not set, as the
            names of kernels tell no more. exact: The trace states it.
    """

    name: str | None
    sheet: Device | None
    capability: tuple[int, int] | None
    exact: bool

    @property
    def has_tensor_cores(self) -> bool:
        """Whether it multiplies matrices of 16 bits faster than those of 32."""
        if self.capability is not None:
            return self.capability >= WITH_TENSOR_CORES
        return self.sheet is not None


def device_model(trace: Trace, timeline: Timeline) -> DeviceModel | None:
    """Which device is the busiest; None where the trace has none.

    Args:
        trace: What the file holds.
        timeline: Of it.
    """
    if not timeline.devices:
        return None
    number, events = timeline.devices[0].device, trace.events
    own = events.name[(events.kind == Kind.KERNEL) & (events.device == number)]
    names = [trace.names[one] for one in distinct(own).tolist()]
    said = _properties(trace, number)
    name = str(said["name"]) if said.get("name") else None
    sheet = find_device(name)
    major, minor = said.get("computeMajor"), said.get("computeMinor")
    if _is_amd(said, names):
        return DeviceModel(name, sheet, None, False)
    if type(major) is int and type(minor) is int and 0 < major < 100 and 0 <= minor < 10:
        return DeviceModel(name, sheet, (major, minor), True)
    if sheet is not None:
        return DeviceModel(name, sheet, sheet.capability, True)
    return DeviceModel(name, None, least_capability(names), False)


def _is_amd(said: dict[str, Any], names: list[str]) -> bool:
    """AMD's devices have wavefronts of 64; Tensile multiplies on them only."""
    name = str(said.get("name", ""))
    if "AMD" in name or "Radeon" in name or said.get("warpSize") == 64:
        return True
    return not said and any(one.startswith("Cijk_") for one in names)


def _properties(trace: Trace, number: int) -> dict[str, Any]:
    described = trace.header.get("deviceProperties")
    for one in described if isinstance(described, list) else ():
        if isinstance(one, dict) and one.get("id") == number:
            return one
    return {}
