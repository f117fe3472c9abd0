"""What ranks send each other: kinds, sizes, speed, and how much of it computation hides.

On a device a collective is a kernel. What it sends is said on the host: by the operator that is
about to launch it (`record_param_comms`, since torch 2.1), or by the shapes of its annotation
(`nccl:all_reduce`) where shapes were recorded. The call that launched the kernel lies inside of
these, so the correlation id leads from one to the other. Those of gloo and MPI have no kernel.

Sizes and speeds are those of nccl-tests, so that they can be held against its measurements:
https://github.com/NVIDIA/nccl-tests/blob/master/doc/PERFORMANCE.md
"""

from __future__ import annotations

import json
import math
import re
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Events, Flags, Kind, Trace, Whole, distinct
from trainprof.profiler.traces.intervals import Intervals, union
from trainprof.profiler.traces.timeline import COMMUNICATION, Timeline, Window

KINDS = (
    ("all-reduce", r"all_?reduce"),
    ("all-gather", r"all_?gather"),
    ("reduce-scatter", r"reduce_?scatter"),
    ("all-to-all", r"all_?to_?all"),
    ("broadcast", r"broadcast"),
    ("send/recv", r"send|recv"),
    ("gather", r"gather"),
    ("scatter", r"scatter"),
    ("reduce", r"reduce"),
    ("barrier", r"barrier"),
)
"""Of collectives, by their names; the first that is found counts."""
OTHER = "other"
_KINDS = [(kind, re.compile(pattern, re.IGNORECASE)) for kind, pattern in KINDS]
ANNOTATION = re.compile(r"^(nccl|gloo|mpi|ucc|xccl|hccl):\w")
ON_HOST = re.compile(r"^(gloo|mpi):\w")

ELEMENT_BYTES = {
    **dict.fromkeys(("double", "long", "long int", "int64", "complexfloat"), 8),
    **dict.fromkeys(("float", "int", "int32"), 4),
    **dict.fromkeys(("half", "bfloat16", "short", "short int"), 2),
    **dict.fromkeys(("byte", "char", "bool", "unsigned char", "signed char"), 1),
    **dict.fromkeys(("float8_e4m3fn", "float8_e5m2", "float8_e4m3fnuz", "float8_e5m2fnuz"), 1),
    "complexdouble": 16,
}
"""By the names of c10's scalar types, in lower case."""
MOST_ELEMENTS, MOST_RANKS = 2**40, 2**17
"""More are no sizes of a trace."""
MOST_BETWEEN = 2
"""Kernels between two collectives that follow each other at once: a division by the number of
ranks, a copy back. A backward that hides its collectives runs many."""


class Exchange(msgspec.Struct, frozen=True):
    """One kind of collectives in the window: how many, and their time in ns without waiting."""

    count: int
    time_ns: int


@dataclass(frozen=True)
class Collectives:
    """The collectives of one device (or of the host) in the window, in the order of their starts.

    Attributes:
        events: Their kernels; of gloo and MPI their annotations.
        kinds: Of each, a key of `KINDS` or OTHER.
        size: Bytes of each as nccl-tests counts them (of all ranks where ranks gather or scatter);
            MISSING where the trace does not tell.
        ranks: Size of the group of each; MISSING where the trace does not tell.
        length_ns: What the exchange took: without waiting where other ranks were read too.
        on_host: They are gloo's or MPI's.
        follows: Those before which at most `MOST_BETWEEN` kernels ran since the last one.
        idle_ns: Of these, for how long the device had nothing to do since the last one.
        exposed_ns: For how long one ran and nothing was computed. hidden_ns: And something was.
        exposed_in_rows_ns: Of `exposed_ns` that of collectives that follow each other.
        launched_ns, launched_lane: When and in which lane the host launched each; MISSING where
            that is not recorded.
        computing: When the device computed.
    """

    events: Events
    kinds: tuple[str, ...]
    size: Whole
    ranks: Whole
    length_ns: Whole
    on_host: bool
    follows: Flags
    idle_ns: Whole
    exposed_ns: int
    hidden_ns: int
    exposed_in_rows_ns: int
    launched_ns: Whole
    launched_lane: Whole
    computing: Intervals

    def __len__(self) -> int:
        return len(self.events)

    def exposed_ns_of(self, chosen: Flags, window: Window) -> int:
        """For how long of a window one of the chosen ran and nothing was computed."""
        own = union(self.events.start_ns[chosen], self.events.end_ns[chosen])
        return own.clipped(window.start_ns, window.end_ns).minus(self.computing).total

    @property
    def overlap_share(self) -> float | None:
        """Part of their time in which something was computed as well; None where none took any."""
        whole = self.exposed_ns + self.hidden_ns
        return self.hidden_ns / whole if whole else None

    def bus_bytes_per_s(self, least_size: int) -> float | None:
        """Bus bandwidth of those of a size or more; None where none tells size and group.

        It is what each link has to move, and can be held against the link's peak.
        """
        return self._bytes_per_s(self._sized(least_size), bus_factor)

    def algorithm_bytes_per_s(self, least_size: int) -> float | None:
        """Algorithm bandwidth of the same ones: their size by their time, whatever the links move.

        It tells how long an exchange of a given size takes on this many ranks.
        """
        return self._bytes_per_s(self._sized(least_size), lambda kind, ranks: 1.0)

    def _sized(self, least_size: int) -> Flags:
        chosen: Flags = (self.size >= max(least_size, 1)) & (self.ranks > 1)
        return chosen

    def _bytes_per_s(self, chosen: Flags, factor: Callable[[str, int], float]) -> float | None:
        if not chosen.any() or not self.length_ns[chosen].any():
            return None
        factors = [
            factor(self.kinds[one], int(self.ranks[one])) for one in np.flatnonzero(chosen).tolist()
        ]
        return float((self.size[chosen] * factors).sum() / self.length_ns[chosen].sum() * 1e9)

    @cached_property
    def by_kind(self) -> Mapping[str, Exchange]:
        """The most frequent first."""
        kinds = np.array(self.kinds)
        return {
            kind: Exchange(count, int(self.length_ns[kinds == kind].sum()))
            for kind, count in Counter(self.kinds).most_common()
        }


def bus_factor(kind: str, ranks: int) -> float:
    """What goes over each rank's links for a byte of a collective, by nccl-tests.

    Args:
        kind: A key of `KINDS`.
        ranks: Size of the group, one or more.
    """
    if kind == "all-reduce":
        return 2 * (ranks - 1) / ranks
    if kind in ("all-gather", "reduce-scatter", "all-to-all", "gather", "scatter"):
        return (ranks - 1) / ranks
    return 1.0


def collectives(trace: Trace, timeline: Timeline, exchange_ns: Whole | None = None) -> Collectives:
    """The collectives of the busiest device of a trace; of the host where there is none.

    Args:
        trace: Of one rank.
        timeline: Of it.
        exchange_ns: What the first of its collectives take without waiting, where ranks were
            compared.
    """
    events, window = trace.events, timeline.window
    inside = (events.start_ns < window.end_ns) & (events.end_ns > window.start_ns)
    number = timeline.devices[0].device if timeline.devices else None
    kernels = (events.kind == Kind.KERNEL) & inside & (events.device == number)
    on_host = number is None
    talks = trace.named(COMMUNICATION.search)
    if on_host:
        found = events.where(inside & trace.named(ON_HOST.search) & (events.kind != Kind.KERNEL))
    else:
        found = events.where(kernels & talks)
    at = (found.start_ns, found.lane.astype(np.int64)) if on_host else _launches(trace, found)
    kinds, size, ranks = _told(trace, found, at)
    length = found.end_ns - found.start_ns
    if exchange_ns is not None and len(exchange_ns) <= len(length):
        length = np.append(exchange_ns, length[len(exchange_ns) :])
    return Collectives(
        events=found,
        kinds=tuple(kinds),
        size=size,
        ranks=ranks,
        length_ns=length,
        on_host=on_host,
        launched_ns=at[0],
        launched_lane=at[1],
        **_hidden(found, np.flatnonzero(kernels & ~talks), trace, timeline),
    )


class MicroBatches(msgspec.Struct, frozen=True):
    """In the window.

    Attributes:
        forwards: Of DistributedDataParallel. synced: Of these, those that an all-reduce follows
            before the next. updates: Steps of optimizers.
    """

    forwards: int
    synced: int
    updates: int


FORWARD = "DistributedDataParallel.forward"
UPDATE = "Optimizer.step#"


def micro_batches(trace: Trace, timeline: Timeline) -> MicroBatches | None:
    """How often gradients are sent an update; None where the trace does not name all of it."""
    events, window = trace.events, timeline.window
    host = (events.kind != Kind.DEVICE_ANNOTATION) & (events.kind != Kind.KERNEL)
    host &= (events.start_ns >= window.start_ns) & (events.start_ns < window.end_ns)
    forwards = events.start_ns[host & trace.named(FORWARD.__eq__)]
    updates = int((host & trace.named(lambda name: name.startswith(UPDATE))).sum())
    sends = events.start_ns[
        host & trace.named(lambda name: bool(ANNOTATION.search(name)) and kind_of(name) == REDUCES)
    ]
    if not len(forwards) or not updates or not len(sends):
        return None
    after = np.searchsorted(np.sort(forwards), sends, "right") - 1
    return MicroBatches(len(forwards), len(np.unique(after[after >= 0])), updates)


REDUCES = KINDS[0][0]


def _hidden(found: Events, computing: Whole, trace: Trace, timeline: Timeline) -> dict[str, Any]:
    start, end = timeline.window.start_ns, timeline.window.end_ns
    computes = trace.events.start_ns[computing]  # in their order, as all events are
    compute = union(computes, trace.events.end_ns[computing])
    own = union(found.start_ns, found.end_ns).clipped(start, end)
    exposed = own.minus(compute)
    after, before = found.start_ns[1:], np.maximum.accumulate(found.end_ns)[:-1]
    between = np.searchsorted(computes, after) - np.searchsorted(computes, before)
    follows = np.append(np.zeros(min(len(found), 1), bool), between <= MOST_BETWEEN)
    idle = np.zeros(len(found), np.int64)
    if timeline.devices and len(found) > 1:
        apart = timeline.devices[0].gaps.within(np.minimum(before, after), after)
        idle[1:] = np.where(follows[1:], apart, 0)
    rows = union(found.start_ns[follows], found.end_ns[follows])
    return {
        "follows": follows,
        "idle_ns": idle,
        "exposed_ns": exposed.total,
        "hidden_ns": own.total - exposed.total,
        "exposed_in_rows_ns": exposed.common(rows).total,
        "computing": compute,
    }


def _told(trace: Trace, found: Events, at: tuple[Whole, Whole]) -> _Told:
    """Kind, bytes and ranks of each, from its own name and from what the host says of it."""
    names = trace.names
    by_name = {place: kind_of(names[place]) for place in distinct(found.name).tolist()}
    kinds = [by_name[place] for place in found.name.tolist()]
    size = np.full(len(found), MISSING, np.int64)
    ranks = np.full(len(found), MISSING, np.int64)
    world = world_size(trace)
    _by_annotation(trace, at, MISSING if world is None else world, (kinds, size, ranks))
    _by_message(trace, at, (kinds, size, ranks))
    return kinds, size, ranks


def world_size(trace: Trace) -> int | None:
    """Ranks that train together, where the trace says so."""
    said = trace.header.get("distributedInfo")
    world = said.get("world_size") if isinstance(said, dict) else None
    return world if type(world) is int and 0 < world < MOST_RANKS else None


def kind_of(name: str) -> str:
    """The kind of a collective, of its kernel's, operator's or annotation's name."""
    return next((kind for kind, pattern in _KINDS if pattern.search(name)), OTHER)


def _launches(trace: Trace, found: Events) -> tuple[Whole, Whole]:
    """When and in which lane each was launched; MISSING where that is not recorded."""
    events = trace.events
    at = np.full(len(found), MISSING, np.int64), np.full(len(found), MISSING, np.int64)
    order = np.argsort(found.correlation, kind="stable")
    wanted = found.correlation[order]
    if not len(wanted):
        return at
    calls = np.flatnonzero((events.kind == Kind.RUNTIME) & (events.correlation > 0))
    ids = events.correlation[calls]
    place = np.minimum(np.searchsorted(wanted, ids), len(wanted) - 1)
    hit = wanted[place] == ids
    kernel = order[place[hit]]
    at[0][kernel], at[1][kernel] = events.start_ns[calls[hit]], events.lane[calls[hit]]
    return at


def _around(at: tuple[Whole, Whole], start: Whole, end: Whole, lane: Whole) -> Whole:
    """For each moment of a lane the last of some events that began before it and holds it."""
    times, lanes = at
    found = np.full(len(times), MISSING, np.int64)
    for one in np.unique(lanes[lanes != MISSING]).tolist():
        own = np.flatnonzero(lane == one)
        if not len(own):
            continue
        own = own[np.argsort(start[own], kind="stable")]
        asked = np.flatnonzero(lanes == one)
        place = np.searchsorted(start[own], times[asked], "right") - 1
        there = own[np.maximum(place, 0)]
        holds = (place >= 0) & (end[there] >= times[asked])
        found[asked] = np.where(holds, there, MISSING)
    return found


_Told = tuple[list[str], Whole, Whole]


def _by_message(trace: Trace, at: tuple[Whole, Whole], told: _Told) -> None:
    rows = trace.messages
    kinds, size, ranks = told
    places = _around(at, rows[:, 0], rows[:, 1], rows[:, 2])
    for one in np.flatnonzero(places != MISSING).tolist():
        element, sent, group = rows[places[one], 3:].tolist()
        ranks[one] = group if 0 < group < MOST_RANKS else ranks[one]
        width = ELEMENT_BYTES.get(trace.names[element].lower().removeprefix("c10::"))
        if width is not None and 0 <= sent < MOST_ELEMENTS:
            size[one] = _of_all(kinds[one], sent * width, int(ranks[one]))


def _by_annotation(trace: Trace, at: tuple[Whole, Whole], world: int, told: _Told) -> None:
    events = trace.events
    said = events.where((events.kind != Kind.DEVICE_ANNOTATION) & trace.named(ANNOTATION.search))
    kinds, size, ranks = told
    places = _around(at, said.start_ns, said.end_ns, said.lane.astype(np.int64))
    by_name = {place: kind_of(trace.names[place]) for place in distinct(said.name).tolist()}
    known: dict[int, int] = {}
    for one in np.flatnonzero(places != MISSING).tolist():
        place = int(places[one])
        kinds[one] = _better(kinds[one], by_name[int(said.name[place])])
        shape = int(said.shape[place])
        if shape not in known:
            known[shape] = MISSING if shape == MISSING else _bytes(trace, shape)
        ranks[one] = world
        size[one] = _of_all(kinds[one], known[shape], world)


def _of_all(kind: str, size: int, ranks: int) -> int:
    """Ranks that gather put in a part of what nccl-tests calls the size."""
    if kind != "all-gather" or size == MISSING:
        return size
    return size * ranks if 0 < ranks < MOST_RANKS else MISSING


def _better(kind: str, other: str) -> str:
    """NCCL sends all-to-all by the kernel of send and recv; RCCL has one kernel for all."""
    return other if other != OTHER and kind in (OTHER, "send/recv") else kind


def _bytes(trace: Trace, shape: int) -> int:
    """Of the tensors that a shape tells of; MISSING where it names no tensor of a known type."""
    try:
        sizes, types = json.loads(trace.shapes[shape]), json.loads(trace.types[shape] or "[]")
    except ValueError:
        return MISSING
    if not isinstance(sizes, list) or not isinstance(types, list):
        return MISSING
    total = 0
    for dims, element in zip(sizes, types, strict=False):
        width = ELEMENT_BYTES.get(str(element).lower().removeprefix("c10::"))
        if not dims and width is None:
            continue  # no tensor
        if width is None or not isinstance(dims, list):
            return MISSING
        if not all(isinstance(one, int) and 0 <= one < MOST_ELEMENTS for one in dims):
            return MISSING
        total += math.prod(dims) * width
    return total if 0 < total < 2**43 else MISSING
