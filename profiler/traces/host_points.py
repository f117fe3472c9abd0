"""Points of host threads, at which they start work of devices, wait for it, or for each other."""

from __future__ import annotations

from enum import IntEnum

import msgspec
import numpy as np

from trainprof.profiler.traces.device_work import NONE, DeviceWork
from trainprof.profiler.traces.events import Flags, Kind, Trace, Whole, distinct
from trainprof.profiler.traces.intervals import Intervals, union
from trainprof.profiler.traces.timeline import (
    ALLOCATES,
    CAUSES,
    COLLECTS,
    COMPILES,
    DATA_WAIT,
    LAUNCHES,
    SAVES,
    STEP,
    SYNCHRONISES,
    on_host,
)

LEAST_STRETCH_NS = 20_000
"""Without any operator or call, from which a thread may have waited for another (a starting
value: what Python does between two operators is shorter)."""


class Point(IntEnum):
    """What happens at a point."""

    PASSES = 0
    LAUNCHES = 1
    WAITED = 2  # for work of a device
    WOKEN = 3  # by another thread
    STEP = 4  # begins


class HostPoints(msgspec.Struct, frozen=True):
    """Points by thread and time; times in ns from the span's start.

    Attributes:
        at_ns: When. kind: `Point`. lane: The thread.
        call: Place of the event that launches or has waited; NONE at others.
        before: The point before it on its thread; NONE at its first.
        parts_ns: What the thread did between the two, by `CAUSES`; a wait is no part of it.
        woken_by: The point of another thread that let this one go on; NONE at others.
    """

    at_ns: Whole
    kind: Whole
    lane: Whole
    call: Whole
    before: Whole
    parts_ns: Whole
    woken_by: Whole

    def __len__(self) -> int:
        return len(self.at_ns)


def host_points(trace: Trace, work: DeviceWork, start_ns: int, end_ns: int) -> HostPoints:
    """The points of all threads that run operators or calls between two times."""
    host = _Host(trace, work, start_ns, end_ns)
    lanes = [host.points_of(lane) for lane in host.lanes]
    columns = [np.concatenate(parts) for parts in zip(*lanes, strict=True)] if lanes else []
    if not lanes:
        columns = [np.zeros(0, np.int64)] * 5
    at, kind, lane, call, first = columns
    before = np.where(first, NONE, np.arange(len(at)) - 1)
    points = HostPoints(at, kind, lane, call, before, host.parts(at, lane, before), before)
    return _woken(points)


class _Host:
    def __init__(self, trace: Trace, work: DeviceWork, start_ns: int, end_ns: int) -> None:
        events = trace.events
        inside = (events.start_ns < end_ns) & (events.end_ns > start_ns)
        calls = inside & (events.kind == Kind.RUNTIME)
        waits = inside & trace.named(DATA_WAIT.search) & (events.kind != Kind.DEVICE_ANNOTATION)
        qualified = trace.named(lambda name: "::" in name)
        operators = inside & (events.kind == Kind.OPERATOR) & qualified
        self._trace, self._start, self._length = trace, start_ns, end_ns - start_ns
        begun = calls & (events.start_ns >= start_ns)
        launches = np.zeros(len(events), bool)
        launches[work.call[work.call >= 0]] = True
        self._launches = np.flatnonzero(launches)
        self._waits = np.flatnonzero(
            begun & (trace.named(SYNCHRONISES.search) | (launches & _copying(trace)))
        )
        launching = calls & trace.named(LAUNCHES.search)
        copying = launching & _copying(trace)
        synchronising = calls & trace.named(SYNCHRONISES.search)
        allocating = calls & trace.named(ALLOCATES.search)
        host = inside & on_host(events)
        causes = {
            "data wait": waits,
            "checkpoint": host & trace.named(SAVES.search),
            "garbage collection": host & trace.named(COLLECTS.search),
            "compilation": host & trace.named(COMPILES.search),
            "synchronisation": synchronising,
            "allocator": allocating,
            "copy call": copying,
            "launch call": launching & ~copying,
            "operator": operators,
        }
        self._causes = [
            (place, np.flatnonzero(causes[cause]))
            for place, cause in enumerate(CAUSES)
            if cause in causes  # Python is part of the rest here
        ]
        active = launching | operators | synchronising
        self._active = np.flatnonzero(active)
        self._covered = np.flatnonzero(active | waits | allocating)
        steps = inside & trace.named(STEP.match) & (events.kind != Kind.DEVICE_ANNOTATION)
        self._steps = np.flatnonzero(steps & (events.start_ns >= start_ns))
        self.lanes = distinct(events.lane[self._covered]).tolist()
        self.main = self._main_lane()

    def _main_lane(self) -> int:
        events = self._trace.events
        if len(self._steps):
            return int(events.lane[self._steps[0]])
        counts = np.bincount(events.lane[self._covered]) if len(self._covered) else np.zeros(1)
        return int(counts.argmax())

    def _of(self, places: Whole, lane: int, others: bool = False) -> Whole:
        own = self._trace.events.lane[places] == lane
        found: Whole = places[~own if others else own]
        return found

    def _union(self, places: Whole) -> Intervals:
        events = self._trace.events
        start, end = events.start_ns[places] - self._start, events.end_ns[places] - self._start
        return union(start, end).clipped(0, self._length)

    def points_of(self, lane: int) -> tuple[Whole, ...]:
        """Time, kind, lane and call of its points in order, and whether each is the first."""
        events = self._trace.events
        launches, waits = self._of(self._launches, lane), self._of(self._waits, lane)
        plain = np.setdiff1d(waits, launches, assume_unique=True)
        free = self._stretches(lane)
        covered = self._union(self._of(self._covered, lane))
        last = self._length if lane == self.main else int(covered.end[-1]) if len(covered) else 0
        steps = self._of(self._steps, lane)
        groups = (
            (events.start_ns[launches] - self._start, Point.LAUNCHES, launches, 2 * launches),
            (events.start_ns[plain] - self._start, Point.PASSES, plain, 2 * plain),
            (events.end_ns[waits] - self._start, Point.WAITED, waits, 2 * waits + 1),
            (free.start, Point.PASSES, NONE, 2 * len(events)),
            (free.end, Point.WOKEN, NONE, -1),
            (events.start_ns[steps] - self._start, Point.STEP, NONE, -2),
            (np.array([last]), Point.PASSES, NONE, 2 * len(events)),
        )
        count = [len(one[0]) for one in groups]
        at = np.concatenate([one[0] for one in groups]).astype(np.int64)
        kind = np.repeat([int(one[1]) for one in groups], count)
        call = np.concatenate([np.broadcast_to(one[2], len(one[0])) for one in groups])
        turn = np.concatenate([np.broadcast_to(one[3], len(one[0])) for one in groups])
        order = np.lexsort((turn, at))
        first = np.zeros(len(at), bool)
        first[0] = True
        return at[order], kind[order], np.full(len(at), lane), call[order], first

    def _stretches(self, lane: int) -> Intervals:
        """In which the thread does nothing that is known, and another works."""
        gaps = self._union(self._of(self._covered, lane)).gaps(0, self._length)
        others = self._union(self._of(self._active, lane, others=True))
        chosen = (gaps.end - gaps.start >= LEAST_STRETCH_NS) & (gaps.end < self._length)
        gaps = Intervals(gaps.start[chosen], gaps.end[chosen])
        if not len(gaps):
            return gaps
        woken = others.within(gaps.start, gaps.end) > 0
        return Intervals(gaps.start[woken], gaps.end[woken])

    def parts(self, at: Whole, lane: Whole, before: Whole) -> Whole:
        """What each thread did since its point before, by cause; waits are left out elsewhere."""
        since = np.where(before >= 0, at[before], 0)
        found = np.zeros((len(at), len(CAUSES)), np.int64)
        for one in self.lanes:
            rows = lane == one
            self._fill(found, rows, since[rows], at[rows], one)
        found[:, -1] = at - since - found.sum(axis=1)
        return found

    def _fill(self, found: Whole, rows: Whole, since: Whole, at: Whole, lane: int) -> None:
        taken = Intervals(np.zeros(0, np.int64), np.zeros(0, np.int64))
        so_far = np.zeros(len(at), np.int64)
        for cause, places in self._causes:
            own = self._union(self._of(places, lane))
            taken = union(np.append(taken.start, own.start), np.append(taken.end, own.end))
            held = taken.within(since, at)
            found[rows, cause] = held - so_far
            so_far = held


def _copying(trace: Trace) -> Flags:
    return trace.named(lambda name: "emcpy" in name)


def _woken(points: HostPoints) -> HostPoints:
    """Finds what let a thread go on: the last point of another one, if in the same stretch."""
    woken_by = np.full(len(points), NONE, np.int64)
    for lane in distinct(points.lane):
        waiting = np.flatnonzero((points.lane == lane) & (points.kind == Point.WOKEN))
        others = np.flatnonzero(points.lane != lane)
        if not len(waiting) or not len(others):
            continue
        others = others[np.argsort(points.at_ns[others], kind="stable")]
        place = np.searchsorted(points.at_ns[others], points.at_ns[waiting], "right") - 1
        since = points.at_ns[points.before[waiting]]
        since = np.where(points.before[waiting] >= 0, since, 0)
        found = others[np.maximum(place, 0)]
        sound = (place >= 0) & (points.at_ns[found] > since)
        woken_by[waiting[sound]] = found[sound]
    parts = points.parts_ns.copy()
    parts[woken_by >= 0] = 0
    return HostPoints(
        points.at_ns, points.kind, points.lane, points.call, points.before, parts, woken_by
    )
