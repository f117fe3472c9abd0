"""Which interval encloses a moment, among intervals that lie within each other like calls."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.traces.events import MISSING, Events, Whole


def outermost(calls: Events, times_ns: Whole) -> Whole:
    """Place of the outermost call around each moment, or MISSING.

    Args:
        calls: Of one thread, ordered by start, the longer first.
        times_ns: Moments; the start of a call lies in it, its end does not.
    """
    if not len(calls):
        return np.full(len(times_ns), MISSING, np.int64)
    reached = np.maximum.accumulate(calls.end_ns)
    before = np.append(np.iinfo(np.int64).min, reached[:-1])
    return _enclosing(calls, np.flatnonzero(calls.start_ns >= before), times_ns)


def innermost(calls: Events, times_ns: Whole) -> Whole:
    """Place of the innermost call around each moment, or MISSING; arguments as of `outermost`."""
    found = np.full(len(times_ns), MISSING, np.int64)
    lasting = np.flatnonzero(calls.end_ns > calls.start_ns)
    start, end = calls.start_ns[lasting], calls.end_ns[lasting]
    depth = np.arange(len(lasting)) - np.searchsorted(np.sort(end), start, "right")
    for level in range(int(depth.max(initial=-1)) + 1):
        place = _enclosing(calls, lasting[depth == level], times_ns)
        found = np.where(place != MISSING, place, found)
    return found


def _enclosing(calls: Events, places: Whole, times_ns: Whole) -> Whole:
    """The place around each moment, of some that are apart from each other."""
    if not len(places):
        return np.full(len(times_ns), MISSING, np.int64)
    last = np.searchsorted(calls.start_ns[places], times_ns, "right") - 1
    place = places[np.maximum(last, 0)]
    holds = (last >= 0) & (times_ns < calls.end_ns[place])
    return np.where(holds, place, MISSING)
