"""What an analysis has found in a trace, as tracks that are drawn beside the trace's own events."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

import numpy as np

from trainprof.profiler.model.tracks import Slice, Track, apart
from trainprof.profiler.traces.events import CATEGORIES, COLUMNS, MISSING, Kind, Trace
from trainprof.profiler.traces.intervals import Intervals
from trainprof.profiler.traces.timeline import DeviceWork, HostWork, Timeline

PROCESS = "trainprof"
"""Heading of the tracks of an analysis."""
PART = 1 << 14
"""Slices that are Python objects at a time."""


_CATEGORY = {kind: name for name, kind in reversed(CATEGORIES.items())}
_ARGUMENTS = {
    "device": "device",
    "stream": "stream",
    "correlation": "correlation",
    "external": "External id",
    "size": "bytes",
}
"""Columns of events, and what a JSON trace calls them."""


def window_tracks(timeline: Timeline) -> Iterator[Track]:
    """What shares refer to, and the whole steps in it."""
    window, steps = timeline.window, timeline.steps
    yield Track(PROCESS, "window", [Slice(window.text, window.start_ns, window.end_ns)])
    times = zip(steps.start.tolist(), steps.end.tolist(), strict=True)
    slices = [Slice(f"step {number}", *pair) for number, pair in enumerate(times, 1)]
    for name, row in apart("steps", slices):
        yield Track(PROCESS, name, row)


def device_tracks(trace: Trace, timeline: Timeline) -> Iterator[Track]:
    """Of each device what it did, and while it did nothing, what the host did."""
    host, work = HostWork(trace), DeviceWork(trace)
    for device in timeline.devices:
        states = work.states(device.device, timeline.window)
        did = {
            "compute": states.compute,
            "exposed communication": states.exposed,
            "exposed copies": states.copies,
            "idle": device.gaps,
        }
        yield Track(PROCESS, f"device {device.device}", _slices(did))
        causes = host.split(device.gaps)
        yield Track(PROCESS, f"device {device.device}: the host while it is idle", _slices(causes))


def _slices(named: Mapping[str, Intervals]) -> Iterator[Slice]:
    names = list(named)
    start = np.concatenate([one.start for one in named.values()])
    end = np.concatenate([one.end for one in named.values()])
    name = np.repeat(np.arange(len(names)), [len(one) for one in named.values()])
    order = np.argsort(start, kind="stable")
    for begin in range(0, len(order), PART):
        part = order[begin : begin + PART]
        for place, *times in zip(
            name[part].tolist(), start[part].tolist(), end[part].tolist(), strict=True
        ):
            yield Slice(names[place], *times)


def event_tracks(trace: Trace) -> Iterator[Track]:
    """All events of a trace that is no JSON, by thread and stream."""
    lane = trace.events.lane
    order = np.argsort(lane, kind="stable")
    bounds = np.searchsorted(lane[order], np.arange(len(trace.lanes) + 1))
    for number, (process, thread) in enumerate(trace.lanes):
        places = order[bounds[number] : bounds[number + 1]]
        name = trace.lane_names.get(number)
        process = f"process {process}" if process.isdecimal() else process
        thread = f"thread {thread}" if thread.isdecimal() else thread
        yield Track(process, f"{thread} ({name})" if name else thread, _events(trace, places))


def _events(trace: Trace, places: np.ndarray) -> Iterator[Slice]:
    for begin in range(0, len(places), PART):
        part = trace.events.where(places[begin : begin + PART])
        rows = zip(*(getattr(part, name).tolist() for name in COLUMNS), strict=True)
        for row in rows:
            event = dict(zip(COLUMNS, row, strict=True))
            told = {
                name: event[column]
                for column, name in _ARGUMENTS.items()
                if event[column] != MISSING
            }
            category = _CATEGORY.get(Kind(event["kind"]), "none")
            name = trace.names[event["name"]]
            yield Slice(name, event["start_ns"], event["end_ns"], told, category)
