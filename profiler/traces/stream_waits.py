"""Which work of devices a call of the host, or another stream, waits for: told from times."""

from __future__ import annotations

import re

import numpy as np

from trainprof.profiler.traces.device_work import NONE, DeviceWork
from trainprof.profiler.traces.events import Kind, Trace, Whole, distinct

WAITS_FOR_EVENT = re.compile(r"^(cuda|hip|cu)StreamWaitEvent")
MOST_STREAMS = 8
"""That are looked at: those with the most work."""
ROUNDING_NS = 1_000
"""Times of some profilers are whole microseconds."""


def busiest_streams(work: DeviceWork) -> list[int]:
    """Those with the most work, which come first."""
    counts = np.bincount(work.stream) if len(work) else np.zeros(0, np.int64)
    found: list[int] = np.argsort(-counts, kind="stable")[:MOST_STREAMS].tolist()
    return found


def launched_until(work: DeviceWork, stream: int, times_ns: Whole) -> Whole:
    """The last work of a stream launched before each time; NONE where there is none."""
    own = np.flatnonzero(work.stream == stream)
    launched = np.maximum.accumulate(work.launched_ns[own])
    place = np.searchsorted(launched, times_ns, "left") - 1
    found: Whole = np.where(place >= 0, own[np.maximum(place, 0)], NONE)
    return found


def waited_for(work: DeviceWork, begun_ns: Whole, over_ns: Whole) -> Whole:
    """What each synchronisation waits for: the last to end of what was launched before it.

    Args:
        work: Of all devices.
        begun_ns: When each call began.
        over_ns: When it returned; what ends later is none that it has waited for.
    """
    found = np.full(len(begun_ns), NONE, np.int64)
    latest = np.full(len(begun_ns), -1, np.int64)
    for stream in busiest_streams(work):
        last = launched_until(work, stream, begun_ns)
        ends = np.where(last >= 0, work.end_ns[last], -1)
        better = (last >= 0) & (ends <= over_ns + ROUNDING_NS) & (ends > latest)
        found[better], latest[better] = last[better], ends[better]
    return found


def stream_waits(trace: Trace, work: DeviceWork, start_ns: int) -> list[tuple[Whole, Whole]]:
    """Pairs of works, by pair of streams: the first of each waits for the second.

    A thread that makes a stream wait for an event does so before it launches what has to wait. What
    had been launched on other streams until then, and had ended when the work began, is what it may
    have waited for.
    """
    events = trace.events
    waits = np.flatnonzero((events.kind == Kind.RUNTIME) & trace.named(WAITS_FOR_EVENT.search))
    streams = busiest_streams(work)
    if not len(waits) or len(streams) < 2:
        return []
    waiting, since = _launched_after(trace, work, waits, start_ns)
    found = []
    for other in streams:
        last = launched_until(work, other, since)
        ends = work.end_ns[last]
        sound = (last >= 0) & (work.stream[waiting] != other) & (ends <= work.start_ns[waiting])
        found.append((waiting[sound], last[sound]))
    return found


def _launched_after(
    trace: Trace, work: DeviceWork, waits: Whole, start_ns: int
) -> tuple[Whole, Whole]:
    """Works whose thread has called for a wait since its last launch, and when it did."""
    lanes, starts = trace.events.lane, trace.events.start_ns
    waiting, since = [np.zeros(0, np.int64)], [np.zeros(0, np.int64)]
    launched = np.flatnonzero(work.call >= 0)
    for lane in distinct(lanes[waits]):
        calls = np.sort(starts[waits[lanes[waits] == lane]]) - start_ns
        own = launched[lanes[work.call[launched]] == lane]
        own = own[np.argsort(work.launched_ns[own], kind="stable")]
        times = work.launched_ns[own]
        place = np.searchsorted(calls, times, "right") - 1
        last = np.where(place >= 0, calls[np.maximum(place, 0)], -1)
        fresh = last > np.append(-1, times[:-1])
        waiting.append(own[fresh])
        since.append(last[fresh])
    return np.concatenate(waiting), np.concatenate(since)
