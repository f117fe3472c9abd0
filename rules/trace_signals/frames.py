"""Where in the script time goes, of traces with stacks (`with_stack=True`)."""

from __future__ import annotations

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.frames import dearest_frame
from trainprof.profiler.traces.intervals import Intervals
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description("frames.data_wait_where", "place", "Function that most of the data wait is in."),
    Description("frames.data_wait_share", "share", "Part of the data wait that is spent there."),
    Description("frames.idle_where", "place", "The same of the busiest device's other idle time."),
    Description("frames.idle_share", "share", "Part of that idle time."),
    Description("frames.other_where", "place", "The same of what the thread did in Python."),
    Description("frames.other_share", "share", "Part of that time."),
)
LEAST_SHARE = 0.3
"""Part of a time that a function must hold to be named (a starting value)."""


def measure(traced: Traced) -> dict[str, Signal]:
    """The functions of the training thread."""
    sheet = Sheet(DESCRIPTIONS)
    thread = traced.thread
    if thread is None:
        return sheet.finish("the trace holds no work of the host")
    _put(sheet, "data_wait", traced, thread.lane, thread.waits)
    _put(sheet, "other", traced, thread.lane, thread.other)
    if traced.timeline.devices:
        _put(
            sheet, "idle", traced, thread.lane, traced.timeline.devices[0].gaps.minus(thread.waits)
        )
    return sheet.finish("no stacks were recorded, or no function holds much of that time")


def _put(sheet: Sheet, what: str, traced: Traced, lane: int, during: Intervals) -> None:
    found = dearest_frame(traced.trace, lane, during)
    if found is not None and found.spent_ns >= LEAST_SHARE * during.total:
        place = Location(found.file, found.line, found.function)
        sheet.put(f"frames.{what}_where", place)
        sheet.put(f"frames.{what}_share", found.spent_ns / during.total)
