"""Gathers the columns of a trace from its events, part by part."""

from __future__ import annotations

import sys
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import islice
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.traces.decode import NOTHING, Arguments, Event
from trainprof.profiler.traces.events import CATEGORIES, COLUMNS, MISSING, Events, Kind, Whole

LARGEST = 2**62
"""Numbers beyond it are no ids, sizes or times of a trace."""
WITH_VALUES = "conv"
"""In the names of operators of which the values of inputs are kept: strides, padding, switches."""
_NO_ARGUMENTS = Arguments()
_SELDOM = frozenset("MiBE")
"""Metadata, the allocator's events, and those that begin and end in two; flows are left out."""
MESSAGE = "record_param_comms"
"""What torch calls the operator that says what a collective sends."""


class _Places(dict[Any, int]):
    """Numbers what it is asked for the first time; in C, as long as nothing new comes."""

    def __missing__(self, value: Any) -> int:
        self[value] = place = len(self)
        return place


class Interned:
    """Gives each value a number, in the order in which they come.

    Args:
        size_of: About how many bytes a value is.

    Attributes:
        size: Of all, in bytes.
    """

    def __init__(self, size_of: Callable[[Any], int]) -> None:
        self._places = _Places()
        self._size_of = size_of
        self._sized = 0
        self.size = 0

    def __len__(self) -> int:
        return len(self._places)

    def places(self, values: Sequence[Any]) -> NDArray[np.int32]:
        """The number of each."""
        found = np.fromiter(map(self._places.__getitem__, values), np.int32, len(values))
        self.size += sum(map(self._size_of, islice(self._places, self._sized, None)))
        self._sized = len(self._places)
        return found

    def place(self, value: Any) -> int:
        """The number of one that has come already, else MISSING."""
        return self._places.get(value, MISSING)

    def values(self) -> list[Any]:
        """All, by number."""
        return list(self._places)


MOST_WRITINGS = 1000
"""Of categories that are remembered: a file may name any."""
OPEN_BYTES = 300
"""Of an event that has begun and not ended."""
LANE_BYTES = 200
"""Of a process and thread."""
LONGEST_LABEL = 200
"""Characters of a thread's name."""


class Columns:
    """Gathers the columns of many parts.

    Attributes:
        lane_names: What threads are called, by process and thread. count: Events that were added.
    """

    def __init__(self) -> None:
        self.names = Interned(sys.getsizeof)  # up to four bytes a character
        self.lanes = Interned(lambda lane: LANE_BYTES + sum(len(str(one)) for one in lane))
        self.shapes = Interned(lambda texts: sum(map(len, texts)))
        self.lane_names: dict[tuple[Any, Any], str] = {}
        self._memory: list[NDArray[np.int64]] = []
        self._messages: list[NDArray[np.int64]] = []
        self._open: dict[tuple[Any, Any], list[Event]] = {}
        self._open_count = 0
        self._parts: list[Events] = []
        self.count = 0

    @property
    def kept_bytes(self) -> int:
        """Of what grows with what events say, not with how many they are."""
        texts = self.names.size + self.lanes.size + self.shapes.size
        return texts + OPEN_BYTES * self._open_count + LANE_BYTES * len(self.lane_names)

    def add(self, events: Sequence[Event]) -> None:
        """Adds what lasts; keeps what names a lane, and what the allocator did."""
        self.count += len(events)
        lasting = [one for one in events if one.ph == "X"]
        if len(lasting) < len(events):
            lasting += self._others(events)
        if lasting:
            self._parts.append(self._columns(lasting))

    def _others(self, events: Sequence[Event]) -> list[Event]:
        closed = []
        allocator = []
        for one in [one for one in events if one.ph in _SELDOM]:
            if one.ph == "M" and one.name == "thread_name" and one.args is not None:
                self.lane_names[one.pid, one.tid] = str(one.args.label)[:LONGEST_LABEL]
            elif one.ph == "i" and one.name == "[memory]" and one.args is not None:
                allocator.append(one)
            elif one.ph == "B":
                self._open.setdefault((one.pid, one.tid), []).append(one)
                self._open_count += 1
            elif one.ph == "E" and self._open.get((one.pid, one.tid)):
                begun = self._open[one.pid, one.tid].pop()
                begun.dur = _between(begun.ts, one.ts)
                closed.append(begun)
                self._open_count -= 1
        if allocator:
            lanes = self.lanes.places([(one.pid, one.tid) for one in allocator])
            self._memory.append(np.column_stack((_allocator_rows(allocator), lanes)))
        return closed

    def _columns(self, events: Sequence[Event]) -> Events:
        arguments = [one.args or _NO_ARGUMENTS for one in events]
        start = _nanoseconds([one.ts for one in events])
        length = np.maximum(_nanoseconds([one.dur for one in events]), 0)
        kinds = _kinds([one.cat for one in events])
        external = _whole([one.external for one in arguments])
        if not (external != MISSING).any():
            external = _whole([one.old_external for one in arguments])
        names = self.names.places([one.name for one in events])
        lanes = self.lanes.places(
            list(zip([one.pid for one in events], [one.tid for one in events], strict=True))
        )
        calls = np.flatnonzero(_ON_HOST[kinds] < 2)  # and works of devices, which they launch
        works = np.flatnonzero(_ON_HOST[kinds] < 1)
        launching = [arguments[one] for one in calls.tolist()]
        of_works = [arguments[one] for one in works.tolist()]
        said = np.flatnonzero(names == self.names.place(MESSAGE)).tolist()
        self._messages += [
            self._message(arguments[one], (start[one], start[one] + length[one], lanes[one]))
            for one in said
            if arguments[one].sent != MISSING
        ]
        return Events(
            kind=kinds,
            name=names,
            start_ns=start,
            end_ns=start + length,
            lane=lanes,
            device=_clipped(_spread([one.device for one in of_works], works, len(kinds))),
            stream=_spread([one.stream for one in of_works], works, len(kinds)),
            correlation=_spread([one.correlation for one in launching], calls, len(kinds)),
            external=external,
            size=_spread([one.size for one in of_works], works, len(kinds)),
            shape=self._shapes(events, arguments),
        )

    def _message(self, given: Arguments, where: Sequence[int]) -> NDArray[np.int64]:
        element = int(self.names.places([str(given.element)])[0])
        return _whole([*where, element, given.sent, given.group_size])

    def _shapes(self, events: Sequence[Event], arguments: Sequence[Arguments]) -> NDArray[np.int32]:
        found = np.full(len(arguments), MISSING, np.int32)
        given = [
            place
            for place, one in enumerate(arguments)
            if one.sizes is not NOTHING or one.old_sizes is not NOTHING
        ]

        def _values(place: int, one: Arguments) -> bytes:
            told = one.values is not NOTHING and WITH_VALUES in events[place].name
            return bytes(one.values) if told else b""

        texts = [
            (bytes(one.sizes) or bytes(one.old_sizes), bytes(one.types), _values(place, one))
            for place, one in zip(given, map(arguments.__getitem__, given), strict=True)
        ]
        found[given] = self.shapes.places(texts)
        return found

    def memory(self) -> NDArray[np.int64]:
        """What the allocator did; see `Trace.memory`."""
        return np.concatenate([np.zeros((0, 7), np.int64), *self._memory])

    def messages(self) -> NDArray[np.int64]:
        """What collectives send; see `Trace.messages`."""
        return np.array(self._messages, np.int64).reshape(-1, 6)

    def finish(self) -> Events:
        """All parts, ordered by start; longer events first where several start at once."""
        if not self._parts:
            return Events(*(np.zeros(0, kind) for kind in _TYPES))
        joined = [np.concatenate([getattr(one, name) for one in self._parts]) for name in COLUMNS]
        self._parts.clear()
        whole = Events(*joined)
        order = np.lexsort((-whole.end_ns, whole.start_ns))
        return whole.where(order)


_TYPES = (np.uint8, np.int32, np.int64, np.int64, np.int32, np.int32, *([np.int64] * 4), np.int32)


_ON_HOST = np.zeros(len(Kind), np.uint8)
"""2 for events of the host that launch nothing, 1 for those that may; neither is on a device."""
_ON_HOST[[Kind.OPERATOR, Kind.PYTHON, Kind.ANNOTATION]] = 2
_ON_HOST[Kind.RUNTIME] = 1


class _KindOf(dict[str | None, int]):
    """The `Kind` of each way in which a category is written."""

    def __missing__(self, category: str | None) -> int:
        kind = CATEGORIES.get(str(category).lower(), Kind.OTHER)
        if len(self) < MOST_WRITINGS:
            self[category] = kind
        return kind


_kind_of = _KindOf()


def _kinds(categories: Sequence[str | None]) -> NDArray[np.uint8]:
    return np.fromiter(map(_kind_of.__getitem__, categories), np.uint8, len(categories))


def _allocator_rows(events: Sequence[Event]) -> NDArray[np.int64]:
    """Of events that all have arguments."""
    given = [one.args or _NO_ARGUMENTS for one in events]
    columns = (
        _nanoseconds([one.ts for one in events]),
        _whole([one.change for one in given]),
        _whole([one.allocated for one in given]),
        _whole([one.reserved for one in given]),
        _whole([one.memory_device for one in given]),
        _whole([one.address for one in given]),
    )
    return np.stack(columns, axis=1)


def _nanoseconds(times_us: Sequence[Any]) -> NDArray[np.int64]:
    """Exact for whole microseconds; three decimals are kept as far as a double holds them."""
    types = set(map(type, times_us))
    if Decimal in types:
        return np.array([_exact_ns(one) for one in times_us], np.int64)
    if types == {int} and (plain := _plain_us(times_us)) is not None:
        return plain * 1000
    times = _numbers(times_us)
    whole = np.floor(times).astype(np.int64)
    parts = np.rint((times - whole) * 1000).astype(np.int64)
    found: NDArray[np.int64] = whole * 1000 + parts
    return found


def _plain_us(times_us: Sequence[int]) -> NDArray[np.int64] | None:
    """Whole numbers as they are; None where one of them is no time of a trace."""
    try:
        found = np.fromiter(times_us, np.int64, len(times_us))
    except OverflowError:
        return None
    return None if (abs(found) > LARGEST // 1000).any() else found


def _between(begin_us: Any, end_us: Any) -> Any:
    """What lies between two times, of which one alone may be exact."""
    if Decimal in (type(begin_us), type(end_us)):
        begin_ns, end_ns = _exact_ns(begin_us), _exact_ns(end_us)
        return Decimal(end_ns - begin_ns) / 1000
    return end_us - begin_us


def _exact_ns(time_us: Any) -> int:
    finite = isinstance(time_us, int) or Decimal(time_us).is_finite()  # math fails on sNaN
    sound = finite and abs(time_us) < LARGEST // 1000
    return round(time_us * 1000) if sound else 0


def _numbers(values: Sequence[int | float]) -> NDArray[Any]:
    """As whole numbers where all are; what is no number, or none of a trace, is 0."""
    found = np.array(values)
    if found.dtype.kind == "O":  # whole numbers of any length
        found = np.array([one if abs(one) < LARGEST else 0.0 for one in values])
    if found.dtype.kind == "i" and not (abs(found) > LARGEST // 1000).any():
        return found
    found = np.asarray(found, np.float64)
    sound = np.isfinite(found) & (abs(found) < LARGEST / 1000)
    return np.where(sound, found, 0.0)


def _spread(values: Sequence[int], places: Whole, length: int) -> Whole:
    """A column with these values at these places, and MISSING at the others."""
    found = np.full(length, MISSING, np.int64)
    found[places] = _whole(values)
    return found


def _clipped(devices: Whole) -> NDArray[np.int32]:
    return np.clip(devices, -1, 2**31 - 1).astype(np.int32)


def _whole(values: Sequence[int]) -> NDArray[np.int64]:
    try:
        return np.array(values, np.int64)
    except OverflowError:
        return np.array([one if abs(one) < LARGEST else MISSING for one in values], np.int64)
