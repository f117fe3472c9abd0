"""What the allocator's events in a trace tell of one device: peak, waste, churn, growth."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Kind, Trace, Whole
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.memory_holders import holders_at
from trainprof.profiler.traces.timeline import ALLOCATES, Timeline

LARGEST = 2**50
"""Bytes; more is no memory of a device."""


class TracedMemory(msgspec.Struct, frozen=True):
    """One device in the window; sizes in bytes.

    Attributes:
        device: Its number.
        peak: Most that was allocated; None where the trace tells changes only. reserved: What the
            allocator held then. most_reserved: Most that it ever held.
        levels: Allocated at the end of each whole step.
        allocations: In the window.
        total: Memory of the device, where the trace tells it.
        holders: Bytes at the peak by `HOLDERS`; None where steps or addresses are missing.
    """

    device: int
    peak: int | None
    reserved: int | None
    most_reserved: int | None
    levels: Whole
    allocations: int
    total: int | None
    holders: Mapping[str, int] | None


class SegmentCalls(msgspec.Struct, frozen=True):
    """Calls that take memory from a device or give it back (cudaMalloc, cudaFree and their like).

    Attributes:
        count: In the window. time_ns: In them, of all threads together.
    """

    count: int
    time_ns: int


def traced_memory(trace: Trace, timeline: Timeline) -> TracedMemory | None:
    """The device that holds most; None where the trace has no events of a device's allocator."""
    window = timeline.window
    recorded = trace.memory[trace.memory[:, 4] >= 0]
    recorded = recorded[np.argsort(recorded[:, 0], kind="stable")]
    inside = (recorded[:, 0] >= window.start_ns) & (recorded[:, 0] < window.end_ns)
    rows = recorded[inside]
    if not len(rows):
        return None
    devices = np.unique(rows[:, 4]).tolist()
    device = max(devices, key=lambda one: int(rows[rows[:, 4] == one, 3].max()))
    own = rows[rows[:, 4] == device]
    time_ns, change, allocated, reserved = own[:, :4].T
    of_device = recorded[recorded[:, 4] == device]
    before = int(np.searchsorted(of_device[:, 0], window.start_ns, "left"))
    told = bool((allocated != MISSING).all() and (reserved != MISSING).all())
    peak = int(allocated.argmax())
    last = np.searchsorted(time_ns, timeline.steps.end, "left") - 1
    return TracedMemory(
        device=int(device),
        peak=int(allocated[peak]) if told else None,
        reserved=int(reserved[peak]) if told else None,
        most_reserved=int(reserved.max()) if told else None,
        levels=allocated[last[last >= 0]] if told else np.zeros(0, np.int64),
        allocations=int((change > 0).sum()),
        total=_total(trace, int(device)),
        holders=holders_at(trace, of_device[: before + peak + 1], int(timeline.steps.start.min()))
        if told and len(timeline.steps)
        else None,
    )


def segment_calls(trace: Trace, timeline: Timeline) -> SegmentCalls:
    """What the host asked of the devices' own allocator in the window."""
    window = timeline.window
    events = trace.events
    calls = np.flatnonzero((events.kind == Kind.RUNTIME) & trace.named(ALLOCATES.search))
    start = events.start_ns[calls]
    inside = union(start, events.end_ns[calls]).clipped(window.start_ns, window.end_ns)
    begun = (start >= window.start_ns) & (start < window.end_ns)
    return SegmentCalls(int(begun.sum()), inside.total)


def _total(trace: Trace, device: int) -> int | None:
    described = trace.header.get("deviceProperties")
    for one in described if isinstance(described, list) else ():
        if isinstance(one, dict) and one.get("id") == device:
            total = one.get("totalGlobalMem")
            return total if type(total) is int and 0 < total < LARGEST else None
    return None
