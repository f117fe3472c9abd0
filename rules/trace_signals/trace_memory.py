"""Memory of a device, of the allocator's events in a trace, or of a snapshot of the allocator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

import numpy as np

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.profiler.traces.events import Whole
from trainprof.profiler.traces.memory import segment_calls, traced_memory
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

if TYPE_CHECKING:  # a trace does not need to read snapshots
    from trainprof.profiler.traces.memory_history import Held, MemoryHistory

PEAK = Description(
    "memory.accelerator_peak_bytes", "bytes", "The most memory that was allocated on the device."
)
"""Under the name that it has in a run."""
LEAST_LEVELS = 5
"""Steps whose ends are compared, to say that memory grows."""
DESCRIPTIONS = (
    Description("device_memory.device", "text", "The device that holds most."),
    Description(
        "device_memory.reserved_at_peak_bytes", "bytes", "What the allocator held at the peak."
    ),
    Description("device_memory.most_reserved_bytes", "bytes", "The most that it held."),
    Description(
        "device_memory.reserved_ratio", "ratio", "Reserved by allocated memory, at the peak."
    ),
    Description("device_memory.total_bytes", "bytes", "Memory that the device has."),
    Description("device_memory.reserved_share", "share", "Part of it that was reserved at most."),
    Description(
        "device_memory.free_share", "share", "Part of it that was not allocated at the peak."
    ),
    Description(
        "device_memory.inactive_split_share",
        "share",
        "Of reserved memory, at the end: free in segments that are partly in use.",
    ),
    Description("device_memory.allocations_per_step", "count", "Allocations a step."),
    Description(
        "device_memory.segment_calls_per_step",
        "count",
        "Calls a step that take memory from the device or give it back (cudaMalloc, cudaFree).",
    ),
    Description("device_memory.segment_calls_share", "share", "Part of the window in such calls."),
    Description(
        "device_memory.retries",
        "count",
        "Times that memory went back to the device and was asked for anew at once.",
    ),
    Description("device_memory.emptied", "count", "Calls of empty_cache() that gave memory back."),
    Description("device_memory.failures", "count", "Out of memory."),
    Description(
        "device_memory.broken_failures",
        "count",
        "Of these, those for which enough was free, but not in one piece.",
    ),
    Description("device_memory.expandable", "bool", "Segments are expandable."),
    Description("device_memory.holders", "mapping", "Bytes at the peak by what they are for."),
    Description("device_memory.activations_share", "share", "Of the peak: allocated in a forward."),
    Description(
        "device_memory.largest", "mapping", "Bytes at the peak by the line that took them."
    ),
    Description("device_memory.largest_where", "place", "The line that holds most at the peak."),
    Description(
        "device_memory.growth_bytes_per_step",
        "bytes",
        "Growth of what is allocated at the end of a step.",
    ),
    Description("device_memory.growth_monotone", "bool", "It was more at the end of every step."),
    Description(
        "device_memory.grown_where", "place", "Line of most of what was allocated and stayed."
    ),
)
UNTOLD = "the trace marks no steps, or does not tell which memory was taken and given back (Addr)"
OF_SNAPSHOTS = "only a memory snapshot tells it (torch.cuda.memory._dump_snapshot)"
_NO_STEPS = f"fewer than {LEAST_LEVELS} ends of steps are marked in it"


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of a trace."""
    sheet = Sheet((*DESCRIPTIONS, PEAK))
    window = traced.timeline.window
    if traced.timeline.devices:
        sheet.put("device_memory.device", str(traced.timeline.devices[0].device))
        calls = segment_calls(traced.trace, traced.timeline)
        sheet.put("device_memory.segment_calls_share", calls.time_ns / max(window.length_ns, 1))
        each = calls.count / window.steps if window.steps else None
        sheet.put("device_memory.segment_calls_per_step", each, reason="the trace marks no steps")
    found = traced_memory(traced.trace, traced.timeline)
    if found is None:
        return sheet.finish("the trace holds no events of the allocator (profile_memory=True)")
    sheet.put("device_memory.device", str(found.device))
    each = found.allocations / window.steps if window.steps else None
    sheet.put("device_memory.allocations_per_step", each, reason="the trace marks no steps")
    if found.peak is None or found.reserved is None or found.most_reserved is None:
        return sheet.finish("the trace tells changes of memory, and not how much is allocated")
    _sizes(sheet, found.peak, found.reserved, found.most_reserved, found.total)
    _growth(sheet, found.levels)
    _holders(sheet, found.holders, found.peak, UNTOLD)
    return sheet.finish(OF_SNAPSHOTS)


def measure_snapshot(found: MemoryHistory) -> Signals:
    """The signals of a snapshot."""
    sheet = Sheet((*DESCRIPTIONS, PEAK))
    sheet.put("device_memory.device", str(found.device))
    _sizes(sheet, found.peak, found.reserved, found.most_reserved, found.device_bytes)
    held = max(found.reserved_at_end, 1)
    sheet.put("device_memory.inactive_split_share", found.inactive_split / held)
    for name in ("retries", "emptied", "failures"):
        sheet.put(f"device_memory.{name}", getattr(found, name))
    sheet.put("device_memory.broken_failures", found.broken)
    sheet.put("device_memory.expandable", found.expandable, reason="the snapshot does not say")
    none = "the snapshot holds no stacks (_record_memory_history)"
    _holders(sheet, found.holders, found.peak, none)
    sheet.put("device_memory.largest", _lines(found.largest) or None, reason=none)
    sheet.put("device_memory.largest_where", _place(found.largest), reason=none)
    steps = max(found.steps, 1)
    few = "fewer than two steps of an optimizer are marked after the warm-up"
    for name, count in (("allocations", found.allocations), ("segment_calls", found.segment_calls)):
        each = count / steps if found.steps else None
        sheet.put(f"device_memory.{name}_per_step", each, reason=few)
    _growth(sheet, found.levels)
    sheet.put("device_memory.grown_where", _place(found.grown), reason="nothing grew, or no stacks")
    return Signals(sheet.finish("a snapshot does not tell it"))


def _sizes(sheet: Sheet, peak: int, reserved: int, most: int, total: int | None) -> None:
    sheet.put(PEAK.name, peak)
    sheet.put("device_memory.reserved_at_peak_bytes", reserved)
    sheet.put("device_memory.most_reserved_bytes", most)
    ratio = reserved / peak if peak else None
    sheet.put("device_memory.reserved_ratio", ratio, reason="nothing was allocated")
    none = "it does not say how much memory the device has"
    sheet.put("device_memory.total_bytes", total, reason=none)
    sheet.put("device_memory.reserved_share", most / total if total else None, reason=none)
    sheet.put(
        "device_memory.free_share", max(total - peak, 0) / total if total else None, reason=none
    )


def _holders(sheet: Sheet, held: Mapping[str, int] | None, peak: int, reason: str) -> None:
    sheet.put("device_memory.holders", held and dict(held), reason=reason)
    part = None if held is None else held["activations"] / max(peak, 1)
    sheet.put("device_memory.activations_share", part, reason=reason)


def _growth(sheet: Sheet, levels: Whole) -> None:
    if len(levels) < LEAST_LEVELS:
        sheet.miss("device_memory.growth_bytes_per_step", _NO_STEPS)
        sheet.miss("device_memory.growth_monotone", _NO_STEPS)
        return
    each = np.diff(levels)
    sheet.put("device_memory.growth_bytes_per_step", float(each.mean()), samples=len(each))
    sheet.put("device_memory.growth_monotone", bool((each > 0).all()), samples=len(each))


def _lines(held: tuple[Held, ...]) -> dict[str, int]:
    return {f"{one.where.file}:{one.where.line}": one.size for one in held if one.where is not None}


def _place(held: tuple[Held, ...]) -> object | None:
    """The first that is known, as a mapping that reports can print."""
    where = next((one.where for one in held if one.where is not None), None)
    if where is None:
        return None
    return {"file": where.file, "line": where.line, "function": where.function}
