"""What each operator of a trace took by itself, on the host and on a device; times in ns.

An operator lies in the one that began last on the same thread and still runs when it begins. Its
own time on the host is its length without the operators that lie in it directly, and its own time
on the device is that of the work whose launch lies in no operator inside it. Both are cut to the
window. Times of all threads are added up, and so are those of work that ran at the same time.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from trainprof.profiler.traces.events import MISSING, Flags, Kind, Trace, Whole
from trainprof.profiler.traces.launches import Launched
from trainprof.profiler.traces.operators import launch_moments
from trainprof.profiler.traces.timeline import Timeline, Window


@dataclass(frozen=True, slots=True)
class OperatorSum:
    """All calls of one operator that lie in the window in part, or whose work does.

    Attributes:
        device_ns: None where the trace holds no device.
        shapes: Sizes of its inputs in the calls that took most, as the trace writes them; None
            where it does not. kinds: How many different ones there are.
    """

    name: str
    calls: int
    host_ns: int
    device_ns: int | None
    shapes: str | None
    kinds: int


@dataclass(frozen=True, slots=True)
class OperatorSums:
    """The operators of a trace.

    Attributes:
        sums: One of each name, in no order that matters.
        unlinked_ns: Of the device's work, what was launched by no operator; None without a device.
    """

    sums: list[OperatorSum]
    unlinked_ns: int | None


@dataclass(frozen=True, slots=True)
class _Calls:
    """Operators by thread and start, those that hold others before these.

    `places` are in `Trace.events`, `parent` among the calls themselves or MISSING.
    """

    places: Whole
    lane: Whole
    start: Whole
    end: Whole
    parent: Whole


def operator_sums(trace: Trace, timeline: Timeline, launched: Launched) -> OperatorSums | None:
    """Of every operator in the window; None where there is none.

    Args:
        trace: What the file holds.
        timeline: Of it; device time is that of its busiest device.
        launched: The work of devices with the calls that launched it.
    """
    operators = trace.events.kind == Kind.OPERATOR
    calls = _calls(trace, operators)
    window = timeline.window
    inside = (calls.start < window.end_ns) & (calls.end > window.start_ns)
    if not inside.any():
        return None
    host = _host_ns(calls, window)
    device, unlinked = _device_ns(trace, operators, calls, timeline, launched)
    counted = inside if device is None else inside | (device > 0)
    return OperatorSums(_by_name(trace, calls, counted, host, device), unlinked)


def _calls(trace: Trace, operators: Flags) -> _Calls:
    events = trace.events
    places = np.flatnonzero(operators)
    lane = events.lane[places].astype(np.int64)
    start, end = events.start_ns[places], events.end_ns[places]
    order = np.lexsort((-end, start, lane))
    places, lane, start, end = places[order], lane[order], start[order], end[order]
    return _Calls(places, lane, start, end, _parents(lane, start, end))


def _parents(lane: Whole, start: Whole, end: Whole) -> Whole:
    """Which call each lies in: of those before it the last one that has not ended."""
    starts, ends, lanes = start.tolist(), end.tolist(), lane.tolist()
    parents: list[int] = []
    for place, begins in enumerate(starts):
        above = place - 1 if place and lanes[place - 1] == lanes[place] else MISSING
        while above != MISSING and ends[above] <= begins:
            above = parents[above]
        parents.append(above)
    return np.array(parents, np.int64)


def _host_ns(calls: _Calls, window: Window) -> Whole:
    """The time of each call without those that lie in it directly."""
    start = np.maximum(calls.start, window.start_ns)
    end = np.minimum(calls.end, window.end_ns)
    inner = np.flatnonzero(calls.parent != MISSING)
    parent = calls.parent[inner]
    taken = np.maximum(np.minimum(end[inner], end[parent]) - start[inner], 0)
    own: Whole = np.maximum(end - start, 0)
    return own - np.bincount(parent, taken, len(own)).astype(np.int64)


def _device_ns(
    trace: Trace, operators: Flags, calls: _Calls, timeline: Timeline, launched: Launched
) -> tuple[Whole, int] | tuple[None, None]:
    """The time of the busiest device that each call launched, and what none of them did."""
    if not timeline.devices:
        return None, None
    window, work = timeline.window, launched.work
    chosen = (
        (work.device == timeline.devices[0].device)
        & (work.start_ns < window.end_ns)
        & (work.end_ns > window.start_ns)
    )
    own = work.where(chosen)
    lengths = np.minimum(own.end_ns, window.end_ns) - np.maximum(own.start_ns, window.start_ns)
    lane, time_ns = launch_moments(trace.events, operators, launched.call[chosen], own.external)
    by = _innermost(calls, lane, time_ns)
    linked = by != MISSING
    sums = np.bincount(by[linked], lengths[linked], len(calls.places)).astype(np.int64)
    return sums, int(lengths[~linked].sum())


def _innermost(calls: _Calls, lane: Whole, time_ns: Whole) -> Whole:
    """The call that each moment lies in, or MISSING."""
    found = np.full(len(lane), MISSING, np.int64)
    for one in np.unique(lane).tolist():
        begin, stop = np.searchsorted(calls.lane, [one, one + 1])
        asked = np.flatnonzero(lane == one)
        place = np.searchsorted(calls.start[begin:stop], time_ns[asked], "right") - 1
        found[asked] = np.where(place >= 0, begin + place, MISSING)
    while True:
        ended = np.flatnonzero((found != MISSING) & (calls.end[found] <= time_ns))
        if not len(ended):
            return found
        found[ended] = calls.parent[found[ended]]


def _by_name(
    trace: Trace, calls: _Calls, counted: Flags, host: Whole, device: Whole | None
) -> list[OperatorSum]:
    chosen = np.flatnonzero(counted)
    host = host[chosen]
    device = None if device is None else device[chosen]
    names, group = np.unique(trace.events.name[calls.places[chosen]], return_inverse=True)
    shapes = _shapes(trace, calls.places[chosen], group, host if device is None else host + device)
    count = np.bincount(group)
    host_sum = np.bincount(group, host)
    device_sum = None if device is None else np.bincount(group, device)
    return [
        OperatorSum(
            name=trace.names[name],
            calls=int(count[place]),
            host_ns=int(host_sum[place]),
            device_ns=None if device_sum is None else int(device_sum[place]),
            shapes=shapes[place][0],
            kinds=shapes[place][1],
        )
        for place, name in enumerate(names.tolist())
    ]


def _by_sizes(trace: Trace) -> Whole:
    """For each of `Trace.shapes` the first of the same sizes (types may differ); then MISSING."""
    first: dict[str, int] = {}
    places = [first.setdefault(text, place) for place, text in enumerate(trace.shapes)]
    return np.array([*places, MISSING], np.int64)  # which MISSING as a place finds


def _shapes(
    trace: Trace, places: Whole, group: Whole, time_ns: Whole
) -> list[tuple[str | None, int]]:
    """Of each group the sizes that took most, and how many different ones it has."""
    shape = _by_sizes(trace)[trace.events.shape[places]]
    pairs, of_pair = np.unique(np.stack((group, shape)), axis=1, return_inverse=True)
    sums = np.bincount(of_pair.ravel(), time_ns)
    found: dict[int, tuple[float, int, int]] = {}
    for owner, one, total in zip(pairs[0].tolist(), pairs[1].tolist(), sums.tolist(), strict=True):
        if one == MISSING:
            continue
        most, best, kinds = found.get(owner, (-1.0, MISSING, 0))
        found[owner] = (total, one, kinds + 1) if total > most else (most, best, kinds + 1)
    return [
        (trace.shapes[found[owner][1]], found[owner][2]) if owner in found else (None, 0)
        for owner in range(int(group.max()) + 1)
    ]
