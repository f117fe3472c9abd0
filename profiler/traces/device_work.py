"""The work of devices in a span of a trace: what launched it, and what ran before it."""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Flags, Kind, Trace, Whole
from trainprof.profiler.traces.timeline import COMMUNICATION, LAUNCHES, ON_DEVICE

NONE = -1
"""A place where there is none."""


class DeviceWork(msgspec.Struct, frozen=True):
    """Kernels, copies and fills, ordered by stream and end; times in ns from the span's start.

    Attributes:
        event: Place among the trace's events. start_ns, end_ns: What ran already begins at 0.
        stream: A number for each stream of each device.
        before: The last of the same stream that had ended when it started.
        call: Place of the event that launched it; of work whose launch is unknown that of what
            ran before it.
        launched_ns: When that call began; 0 for what was launched before the span.
        communicates, copies: What kind of work it is, if not a computation.
    """

    event: Whole
    start_ns: Whole
    end_ns: Whole
    stream: Whole
    before: Whole
    call: Whole
    launched_ns: Whole
    communicates: Flags
    copies: Flags

    def __len__(self) -> int:
        return len(self.event)

    @property
    def rank(self) -> Whole:
        """How many came before it on its stream."""
        first = np.append(True, self.stream[1:] != self.stream[:-1])
        places = np.arange(len(self))
        found: Whole = places - np.maximum.accumulate(np.where(first, places, 0))
        return found


def device_work(trace: Trace, start_ns: int, end_ns: int) -> DeviceWork:
    """What was launched between two times, or launched earlier and still running."""
    events = trace.events
    call = _calls(trace)
    places = np.flatnonzero(events.of(*ON_DEVICE))
    launched = np.where(call >= 0, events.start_ns[call], np.int64(-1))
    inside = (launched >= start_ns) & (launched < end_ns)
    early = (call < 0) | (launched < start_ns)
    runs = (events.start_ns[places] < end_ns) & (events.end_ns[places] > start_ns)
    chosen = inside | (early & runs)
    places, call = places[chosen], np.where(inside, call, NONE)[chosen]
    stream = _streams(events.device[places].astype(np.int64), events.stream[places])
    order = np.lexsort((events.start_ns[places], events.end_ns[places], stream))
    places, call, stream = places[order], call[order], stream[order]
    starts = np.maximum(events.start_ns[places] - start_ns, 0)
    ends = np.maximum(events.end_ns[places] - start_ns, 0)
    call = _filled(call, stream)
    talks = trace.named(COMMUNICATION.search)
    kinds = events.kind[places]
    return DeviceWork(
        event=places,
        start_ns=starts,
        end_ns=ends,
        stream=stream,
        before=_before(starts, ends, stream),
        call=call,
        launched_ns=np.where(call >= 0, events.start_ns[call] - start_ns, 0),
        communicates=(kinds == Kind.KERNEL) & talks[places],
        copies=kinds != Kind.KERNEL,
    )


def _calls(trace: Trace) -> Whole:
    """For each event of a device the place of the call that launched it; NONE where unknown."""
    events = trace.events
    calls = np.flatnonzero((events.kind == Kind.RUNTIME) & trace.named(LAUNCHES.search))
    wanted = events.correlation[events.of(*ON_DEVICE)]
    calls = calls[events.correlation[calls] > 0]
    if not len(calls):
        return np.full(len(wanted), NONE, np.int64)
    calls = calls[np.argsort(events.correlation[calls], kind="stable")]
    known = events.correlation[calls]
    places = np.minimum(np.searchsorted(known, wanted), len(known) - 1)
    found: Whole = np.where(known[places] == wanted, calls[places], NONE)
    return found


def _streams(device: Whole, stream: Whole) -> Whole:
    known, streams = np.unique(stream, return_inverse=True)
    pairs = np.unique(device, return_inverse=True)[1] * max(len(known), 1) + streams
    found: Whole = np.unique(pairs, return_inverse=True)[1].astype(np.int64)
    return found


def _filled(call: Whole, stream: Whole) -> Whole:
    """What is unknown is launched with what ran before it on the stream."""
    places = np.arange(len(call))
    known = np.maximum.accumulate(np.where(call >= 0, places, NONE)) if len(call) else places
    same = (known >= 0) & (stream[known] == stream)
    return np.where(same, call[known], NONE)


def _before(start: Whole, end: Whole, stream: Whole) -> Whole:
    if not len(start):
        return np.zeros(0, np.int64)
    apart = int(end.max()) + 1
    found = np.searchsorted(end + stream * apart, start + stream * apart, "right") - 1
    found = np.minimum(found, np.arange(len(start)) - 1)
    same = (found >= 0) & (stream[found] == stream)
    return np.where(same, found, NONE)
