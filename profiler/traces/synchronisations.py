"""Where the host waits for a device, and which of these waits the device pays for.

A wait by itself costs nothing: while the host stands still, the device works. It costs where the
device has run dry by the time at which the host goes on and launches again. Had the host not waited
it would have launched earlier by as long as it was blocked, so a wait never costs more than that,
nor more than the device was idle before the next launch.
"""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.copies import PAGEABLE, SMALL_BYTES, TO_DEVICE
from trainprof.profiler.traces.events import MISSING, Flags, Kind, Trace, Whole, distinct
from trainprof.profiler.traces.frames import own_function
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.launches import Launched, LaunchQueue
from trainprof.profiler.traces.nesting import innermost, outermost
from trainprof.profiler.traces.timeline import DATA_WAIT, SYNCHRONISES, on_host


class Synchronisations(msgspec.Struct, frozen=True):
    """Waits of the host that end in a window, by start; calls of one operator are one wait.

    Attributes:
        start_ns, end_ns: Of the first and of the last of its calls.
        blocked_ns: Length of its calls.
        cost_ns: Idle time of the device before the work that was launched next.
        behind_ns: The same before all work launched until the next wait: a host that was blocked
            has no work queued, and the device may run dry again and again.
        copies_to_device: It is a copy to the device that the host waits for, and no small one: of
            an index or a mask the wait is what counts.
        call: Place in `Trace.names` of its first call.
        operator: Place in `Trace.names` of the outermost operator around it, or MISSING.
        function: Of the innermost Python function of the script, see `own_function`.
    """

    start_ns: Whole
    end_ns: Whole
    blocked_ns: Whole
    cost_ns: Whole
    behind_ns: Whole
    copies_to_device: Flags
    call: Whole
    operator: Whole
    function: Whole

    def __len__(self) -> int:
        return len(self.start_ns)


def synchronisations(trace: Trace, found: Launched, queue: LaunchQueue) -> Synchronisations:
    """The waits for devices, and what the one whose queue is given paid for each."""
    events, window = trace.events, queue.window
    calls, blocks, to_device = _calls(trace, found)
    lane = events.lane[calls]
    operator = _around(trace, calls, Kind.OPERATOR, lambda name: name.startswith("aten::"))
    joins = (
        (blocks[1:] & blocks[:-1])
        & (lane[1:] == lane[:-1])
        & (operator[1:] == operator[:-1])
        & (operator[1:] != MISSING)
    )
    first = np.flatnonzero(blocks & ~np.append(False, joins)) if len(calls) else calls
    group = np.cumsum(blocks & ~np.append(False, joins)) - 1 if len(calls) else calls
    own = calls[blocks]
    of_group = group[blocks]
    count = len(first)
    end, length = np.zeros(count, np.int64), np.zeros(count, np.int64)
    np.maximum.at(end, of_group, events.end_ns[own])
    np.add.at(length, of_group, events.end_ns[own] - events.start_ns[own])
    copies = np.bincount(of_group, to_device[blocks], count) > 0
    start = events.start_ns[calls[first]]
    inside = (end > window.start_ns) & (end <= window.end_ns)
    order = np.flatnonzero(inside)[np.argsort(start[inside], kind="stable")]
    chosen = calls[first][order]
    named = np.where(operator[first] != MISSING, events.name[operator[first]], MISSING)[order]
    frames = _around(trace, chosen, Kind.PYTHON, own_function)
    cost, behind = _costs(trace, queue, start[order], end[order], length[order])
    return Synchronisations(
        start_ns=start[order],
        end_ns=end[order],
        blocked_ns=length[order],
        cost_ns=cost,
        behind_ns=behind,
        copies_to_device=copies[order],
        call=events.name[chosen].astype(np.int64),
        operator=named,
        function=np.where(frames != MISSING, events.name[frames], MISSING),
    )


def _calls(trace: Trace, found: Launched) -> tuple[Whole, Flags, Flags]:
    """Calls that block or launch, by thread and start; which block; which copy to the device."""
    events = trace.events
    is_copy = found.matched & (found.work.kind == Kind.MEMCPY)
    copies = found.where(is_copy)
    names = [trace.names[place] for place in copies.work.name.tolist()]
    # the host waited for it, whatever its memory is called
    waited = copies.returned_ns >= copies.work.end_ns
    pageable = np.array([bool(PAGEABLE.search(name)) for name in names], bool)
    to_device = np.array([bool(TO_DEVICE.search(name)) for name in names], bool)
    to_device &= (copies.work.size == MISSING) | (copies.work.size >= SMALL_BYTES)
    blocks, to = np.zeros(len(events), bool), np.zeros(len(events), bool)
    blocks[(events.kind == Kind.RUNTIME) & trace.named(SYNCHRONISES.search)] = True
    blocks[copies.call[waited | pageable]] = True
    to[copies.call[to_device]] = True
    calls = blocks.copy()
    calls[found.call[found.matched]] = True
    places = np.flatnonzero(calls)
    places = places[np.argsort(events.lane[places], kind="stable")]
    return places, blocks[places], to[places]


def _around(trace: Trace, calls: Whole, kind: Kind, wanted: object) -> Whole:
    """Place of the operator (outermost) or function (innermost) around each call, or MISSING."""
    events = trace.events
    around = np.full(len(calls), MISSING, np.int64)
    places = np.flatnonzero((events.kind == kind) & trace.named(wanted))
    find = outermost if kind == Kind.OPERATOR else innermost
    lanes = events.lane[calls]
    for lane in distinct(lanes):
        own = places[events.lane[places] == lane]
        of_lane = lanes == lane
        place = find(events.where(own), events.start_ns[calls[of_lane]])
        around[of_lane] = np.where(place != MISSING, own[place], MISSING) if len(own) else MISSING
    return around


def _costs(
    trace: Trace, queue: LaunchQueue, start: Whole, end: Whole, blocked: Whole
) -> tuple[Whole, Whole]:
    """Idle time after each wait: before the work that was launched next, and before the next wait.

    Neither holds time in which the host waited for a batch, nor more than the host was blocked.
    """
    cost = np.zeros(len(start), np.int64)
    late, launches = queue.late, queue.known
    if not len(late) or not len(start):
        return cost, cost
    events = trace.events
    batches = events.where(on_host(events) & trace.named(DATA_WAIT.search))
    waiting = union(batches.start_ns, batches.end_ns)
    order = np.argsort(launches.called_ns, kind="stable")
    place = np.searchsorted(launches.called_ns[order], end)
    begins = launches.work.start_ns[order[np.minimum(place, len(order) - 1)]]
    at = np.minimum(np.searchsorted(late.end, begins), len(late) - 1)
    follows = (place < len(order)) & (late.end[at] == begins)
    since = np.maximum(late.start[at], start)
    until = np.maximum(late.end[at], since)
    starved = waiting.within(since, until)
    cost[follows] = np.minimum(until - since - starved, blocked)[follows]
    cost = _dearest(cost, at)
    until = np.maximum(np.append(start[1:], queue.window.end_ns), start)
    behind = np.minimum(late.minus(waiting).within(start, until), blocked)
    return cost, np.maximum(behind, cost)


def _dearest(cost: Whole, gap: Whole) -> Whole:
    """Of several waits before one gap only the dearest costs."""
    order = np.lexsort((-cost, gap))
    again = np.append(False, gap[order][1:] == gap[order][:-1])
    cost[order[again]] = 0
    return cost
