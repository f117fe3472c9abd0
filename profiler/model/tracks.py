"""Tracks of a picture of time: what an exporter draws, whatever it was made from."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from heapq import heappop, heappush
from typing import NamedTuple


class Slice(NamedTuple):
    """Something that lasts; what more there is to say of it stands in `told`.

    Attributes:
        category: As the profiler calls its kind; empty for what trainprof has found.
    """

    name: str
    start_ns: int
    end_ns: int
    told: Mapping[str, object] = {}
    category: str = ""


@dataclass(frozen=True, slots=True)
class Track:
    """Slices of one row, in order of their start; one lies within another, or beside it.

    Attributes:
        process: Heading under which the row stands. name: Of the row.
        slices: Gone through once, so that they may be made while they are written.
    """

    process: str
    name: str
    slices: Iterable[Slice]


@dataclass(frozen=True, slots=True)
class CounterTrack:
    """A quantity over time: pairs of a time in ns and a value, in order of time."""

    process: str
    name: str
    values: Iterable[tuple[int, float]] = field(default_factory=tuple)


def apart(name: str, slices: Iterable[Slice]) -> Iterator[tuple[str, list[Slice]]]:
    """Rows of slices that may overlap: in each row they lie one after another.

    Args:
        name: Of the first row; the others are numbered.
        slices: In any order.

    Returns:
        Names of rows with their slices, in order.
    """
    rows: list[list[Slice]] = []
    ends: list[tuple[int, int]] = []  # a heap of ends and rows: slices may be many
    for one in sorted(slices, key=lambda one: one.start_ns):
        if ends and ends[0][0] <= one.start_ns:
            _, place = heappop(ends)
        else:
            place = len(rows)
            rows.append([])
        rows[place].append(one)
        heappush(ends, (one.end_ns, place))
    for number, row in enumerate(rows):
        yield (name if not number else f"{name} ({number + 1})"), row
