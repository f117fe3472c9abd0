"""What in a trace waits for what: points of host threads and work of devices, with times between.

A node is a point on a host thread (a launch, the end of a wait) or a piece of work on a device. It
comes after the one before it on its thread or stream, and after one thing more that it waits for:
work after its launch, a synchronisation after the work that it waits for, a thread after the one
that wakes it. Each edge keeps the time that lay between, so that replaying the graph gives back
what was observed, and replaying it with other times tells what a change would do.

Which work a synchronisation or another stream waits for is not in a trace: it is told from times,
as the last work launched before the call that had ended when the wait was over.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Any

import msgspec
import numpy as np
from msgspec.structs import replace

from trainprof.profiler.traces.device_work import NONE, DeviceWork, device_work
from trainprof.profiler.traces.events import Flags, Trace, Whole
from trainprof.profiler.traces.host_points import HostPoints, Point, host_points
from trainprof.profiler.traces.stream_waits import stream_waits, waited_for
from trainprof.profiler.traces.timeline import CAUSES

SYNCHRONISATION, LAUNCH_CALL = CAUSES.index("synchronisation"), CAUSES.index("launch call")
QUEUE = 1024
"""Launches that a stream of CUDA holds before the next one has to wait."""
FULL = 1000
"""Of them, from which a long launch is taken for such a wait."""
WAITLESS_NS = 10_000
"""What a synchronisation takes that has nothing to wait for (3 to 10 us on recorded traces)."""
LATENCY_NS, GAP_NS = 10_000, 1_000
"""From a launch to its kernel, and between two queued kernels, where a trace shows none (usual
figures of recorded traces)."""


class Node(IntEnum):
    """What a node is."""

    START = 0
    HOST = 1
    WORK = 2
    JOIN = 3  # a stream waits for another
    BEGIN = 4  # of a copy for which a call waits


_TIES = {Node.START: 0, Node.HOST: 1, Node.WORK: 2, Node.JOIN: 3, Node.BEGIN: 4}
"""The order of what is observed at one time; work without length, and ends of waits, come last."""


class Dependencies(msgspec.Struct, frozen=True):
    """Nodes in an order in which each comes after what it depends on; the first is the start.

    A node is reached at max(reached[before] + between, reached[other] + lag) + wait + work.

    Attributes:
        kind: `Node`. at_ns: When it was observed, from the start of the span.
        before, other: Places of nodes; 0, the start, where there is none.
        parts_ns: What lies between on the host, nodes by `CAUSES`. gap_ns: And on a device.
        lag_ns, work_ns: See above. wait_ns: What nothing in the trace explains.
        point: `Point` of a node of the host, else -1. lane: Its thread.
        event: Place of the call, or of the device's event, among the trace's; -1 for others.
        communicates, copies: What work it is, if not a computation.
    """

    kind: Whole
    at_ns: Whole
    before: Whole
    other: Whole
    gap_ns: Whole
    lag_ns: Whole
    work_ns: Whole
    wait_ns: Whole
    parts_ns: Whole
    point: Whole
    lane: Whole
    event: Whole
    communicates: Flags
    copies: Flags

    def __len__(self) -> int:
        return len(self.kind)

    @property
    def between_ns(self) -> Whole:
        """What lies between a node and the one before it."""
        found: Whole = self.parts_ns.sum(axis=1) + self.gap_ns
        return found


COLUMNS = tuple(Dependencies.__struct_fields__)


def dependencies(trace: Trace, start_ns: int, end_ns: int) -> Dependencies:
    """The graph of what began on the host, or ran on devices, between two times of the trace."""
    work = device_work(trace, start_ns, end_ns)
    points = host_points(trace, work, start_ns, end_ns)
    return _Graph(trace, work, points, start_ns).build()


class _Graph:
    """Puts the nodes together: the start, points of threads, works, and what is between them."""

    def __init__(self, trace: Trace, work: DeviceWork, points: HostPoints, start: int) -> None:
        self._trace, self._work, self._points = trace, work, points
        self._start = start
        self._columns: list[dict[str, Any]] = []
        self._count = 0
        self._work_of = np.full(len(trace.events), NONE, np.int64)  # by place of its call
        known = np.flatnonzero(work.call >= 0)[::-1]
        self._work_of[work.call[known]] = known

    def build(self) -> Dependencies:
        points, work = self._points, self._work
        self._add(1, Node.START)
        host = self._add(
            len(points),
            Node.HOST,
            at_ns=points.at_ns,
            before=points.before + 1,
            parts_ns=points.parts_ns,
            point=points.kind,
            lane=points.lane,
            event=points.call,
        )
        self._add(
            len(work),
            Node.WORK,
            at_ns=work.end_ns,
            work_ns=work.end_ns - work.start_ns,
            event=work.event,
            communicates=work.communicates,
            copies=work.copies,
        )
        self._host, self._device = self._columns[1], self._columns[2]
        self._first_point, self._first_work = 1, 1 + len(host)
        self._wake()
        self._synchronise()
        self._wait_for_room()
        self._launch(*self._usual_times())
        self._wait_for_copies()
        return self._finished()

    def _add(self, count: int, kind: Node, **given: Whole | Flags | int) -> Whole:
        """Adds nodes; columns that are not given are 0, or -1 where that says none."""
        nothing = {"point": NONE, "lane": NONE, "event": NONE, "kind": int(kind)}
        columns = {}
        for name in COLUMNS:
            value = given.get(name, nothing.get(name, 0))
            shape = (count, len(CAUSES)) if name == "parts_ns" else (count,)
            dtype = bool if name in ("communicates", "copies") else np.int64
            columns[name] = np.array(np.broadcast_to(value, shape), dtype)
        self._columns.append(columns)
        self._count += count
        return np.arange(self._count - count, self._count)

    def _wake(self) -> None:
        """Threads after those that let them go on."""
        points = self._points
        woken = np.flatnonzero(points.woken_by >= 0)
        self._host["other"][woken] = 1 + points.woken_by[woken]
        self._host["lag_ns"][woken] = points.at_ns[woken] - points.at_ns[points.woken_by[woken]]

    def _synchronise(self) -> None:
        """Ends of synchronisations after the work that they wait for."""
        points, work = self._points, self._work
        ends = np.flatnonzero(points.kind == Point.WAITED)
        ends = ends[self._work_of[points.call[ends]] == NONE]
        begun = self._trace.events.start_ns[points.call[ends]] - self._start
        awaited = waited_for(work, begun, points.at_ns[ends])
        ends, begun, awaited = (one[awaited >= 0] for one in (ends, begun, awaited))
        self._host["other"][ends] = self._first_work + awaited
        self._hold(ends[work.end_ns[awaited] > begun], SYNCHRONISATION)

    def _hold(self, ends: Whole, part: int) -> None:
        """Leaves of a call that waits what it takes without a wait."""
        parts = self._host["parts_ns"]
        length = np.minimum(parts[ends].sum(axis=1), WAITLESS_NS)
        parts[ends] = 0
        parts[ends, part] = length

    def _wait_for_room(self) -> None:
        """Launches after the work that has to be done before a stream's queue has room."""
        points, work = self._points, self._work
        launches = np.flatnonzero(points.kind == Point.LAUNCHES)
        own = self._work_of[points.call[launches]]
        rank = work.rank[own]
        queued = rank - _ended(work, work.stream[own], points.at_ns[launches])
        deepest = int(queued.max(initial=0))
        most = deepest + 1 if deepest >= FULL else QUEUE
        full = np.flatnonzero(rank >= most)
        self._host["other"][launches[full]] = self._first_work + own[full] - most
        events = self._trace.events
        length = (events.end_ns - events.start_ns)[points.call[launches]]
        usual = int(np.median(length)) if len(length) else 0
        held = (queued >= FULL) & (length > usual) & (launches + 1 < len(points))
        after = launches[held] + 1
        parts = self._host["parts_ns"]
        over = np.minimum(length[held] - usual, parts[after, LAUNCH_CALL])
        parts[after, LAUNCH_CALL] -= np.where(points.before[after] == launches[held], over, 0)

    def _usual_times(self) -> tuple[int, int]:
        """From a launch to its kernel on a free stream, and between two kernels of a full one."""
        work = self._work
        past = np.where(work.before >= 0, work.end_ns[work.before], 0)
        known = (work.call >= 0) & (work.before >= 0)
        free = known & (past <= work.launched_ns)
        latencies = (work.start_ns - work.launched_ns)[free]
        latency = int(np.median(latencies)) if len(latencies) else LATENCY_NS
        gaps = (work.start_ns - past)[known & (work.launched_ns + 2 * latency < past)]
        return latency, int(np.median(gaps)) if len(gaps) else GAP_NS

    def _launch(self, latency: int, gap: int) -> None:
        """Work after its launch, what ran before it, and what its stream waits for."""
        work, device = self._work, self._device
        known = work.before >= 0
        device["before"][:] = np.where(known, self._first_work + work.before, 0)
        past = np.where(known, work.end_ns[work.before], 0)
        for waiting, awaited in stream_waits(self._trace, work, self._start):
            past[waiting] = np.maximum(past[waiting], work.end_ns[awaited])
            device["before"][waiting] = self._add(
                len(waiting),
                Node.JOIN,
                at_ns=past[waiting],
                before=device["before"][waiting],
                other=self._first_work + awaited,
            )
        device["gap_ns"][:] = np.clip(work.start_ns - past, 0, gap)
        point = np.zeros(len(self._trace.events), np.int64)
        launches = np.flatnonzero(self._points.kind == Point.LAUNCHES)
        point[self._points.call[launches]] = 1 + launches
        device["other"][:] = np.where(work.call >= 0, point[work.call], 0)
        device["lag_ns"][:] = np.minimum(work.start_ns - work.launched_ns, latency)

    def _wait_for_copies(self) -> None:
        """Calls that copy unpinned memory, after the end or the beginning of their copy."""
        points, work, device = self._points, self._work, self._device
        ends = np.flatnonzero(points.kind == Point.WAITED)
        ends = ends[self._work_of[points.call[ends]] >= 0]
        copy = self._work_of[points.call[ends]]
        names = [self._trace.names[one] for one in self._trace.events.name[work.event[copy]]]
        over = points.at_ns[ends]
        waits = np.array(["Pinned" not in one for one in names], bool)
        waits &= over - work.launched_ns[copy] > WAITLESS_NS
        whole = waits & (over >= work.end_ns[copy])
        begun = waits & ~whole & (over > work.start_ns[copy])
        self._host["other"][ends[whole]] = self._first_work + copy[whole]
        self._host["lag_ns"][ends[whole]] = (over - work.end_ns[copy])[whole]
        first = copy[begun]
        nodes = self._add(
            len(first),
            Node.BEGIN,
            at_ns=work.start_ns[first],
            **{name: device[name][first] for name in ("before", "gap_ns", "other", "lag_ns")},
        )
        for name, value in (("before", nodes), ("gap_ns", 0), ("other", 0), ("lag_ns", 0)):
            device[name][first] = value
        self._host["other"][ends[begun]] = nodes
        self._host["lag_ns"][ends[begun]] = (over - work.start_ns[copy])[begun]
        self._hold(ends[whole | begun], CAUSES.index("copy call"))

    def _finished(self) -> Dependencies:
        columns = {name: np.concatenate([one[name] for one in self._columns]) for name in COLUMNS}
        order = np.lexsort((np.arange(self._count), _turn(columns), columns["at_ns"]))
        place = np.empty(self._count, np.int64)
        place[order] = np.arange(self._count)
        for edge in ("before", "other"):
            found = place[columns[edge]]
            columns[edge] = np.where(found < place, found, 0)
        return _explained(Dependencies(**{name: columns[name][order] for name in COLUMNS}))


def _ended(work: DeviceWork, stream: Whole, times_ns: Whole) -> Whole:
    """How many works of a stream had ended at each time."""
    if not len(work):
        return np.zeros(len(stream), np.int64)
    apart = int(max(work.end_ns.max(), times_ns.max(initial=0))) + 1
    ends = work.end_ns + work.stream * apart
    first = np.searchsorted(work.stream, stream)
    found: Whole = np.searchsorted(ends, times_ns + stream * apart, "right") - first
    return found


def _turn(columns: dict[str, Any]) -> Whole:
    """The order of what is observed at one time: what waits comes after what it waits for."""
    kind, lane, at = columns["kind"], columns["lane"], columns["at_ns"]
    waits = np.isin(columns["point"], (Point.WAITED, Point.WOKEN))
    turn: Whole = np.array([_TIES[one] for one in Node])[kind]
    turn[(kind == Node.WORK) & (columns["work_ns"] == 0)] = len(Node)
    fresh = np.append(True, (lane[1:] != lane[:-1]) | (at[1:] != at[:-1]))
    waited = np.cumsum(waits)
    before = np.maximum.accumulate(np.where(fresh, waited - waits, 0))
    turn[(kind == Node.HOST) & (waited > before)] = len(Node) + 1
    return turn


def _explained(found: Dependencies) -> Dependencies:
    """Leaves out what did not wait as the graph says, and keeps what nothing explains as a wait."""
    at = found.at_ns
    wrong = (found.kind == Node.HOST) & (at[found.other] + found.lag_ns > at)
    other, lag = np.where(wrong, 0, found.other), np.where(wrong, 0, found.lag_ns)
    reached = np.maximum(at[found.before] + found.between_ns, at[other] + lag)
    wait = np.maximum(at - found.work_ns - reached, 0)
    return replace(found, other=other, lag_ns=lag, wait_ns=wait)
