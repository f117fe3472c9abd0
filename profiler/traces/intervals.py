"""Sets of intervals of time as two arrays, sorted and apart from each other."""

from __future__ import annotations

import msgspec
import numpy as np
from numpy.typing import NDArray

Times = NDArray[np.int64]


class Intervals(msgspec.Struct, frozen=True):
    """Times in ns; each start lies after the end before it."""

    start: Times
    end: Times

    def __len__(self) -> int:
        return len(self.start)

    @property
    def total(self) -> int:
        """Their length in ns."""
        return int((self.end - self.start).sum())

    def clipped(self, start: int, end: int) -> Intervals:
        """What lies between two times."""
        starts, ends = np.maximum(self.start, start), np.minimum(self.end, end)
        inside = ends > starts
        return Intervals(starts[inside], ends[inside])

    def gaps(self, start: int, end: int) -> Intervals:
        """What lies between two times and in none of them."""
        inside = self.clipped(start, end)
        starts, ends = np.append(start, inside.end), np.append(inside.start, end)
        apart = ends > starts
        return Intervals(starts[apart], ends[apart])

    def minus(self, other: Intervals) -> Intervals:
        """What lies in these and not in the others."""
        if not len(self) or not len(other):
            return self
        return self.common(other.gaps(int(self.start[0]), int(self.end[-1])))

    def common(self, other: Intervals) -> Intervals:
        """What lies in both."""
        first = np.searchsorted(other.end, self.start, "right")
        last = np.searchsorted(other.start, self.end, "left")
        counts = np.maximum(last - first, 0)
        own = np.repeat(np.arange(len(self)), counts)
        offsets = np.arange(counts.sum()) - np.repeat(np.cumsum(counts) - counts, counts)
        theirs = np.repeat(first, counts) + offsets
        return Intervals(
            np.maximum(self.start[own], other.start[theirs]),
            np.minimum(self.end[own], other.end[theirs]),
        )

    def within(self, start: Times, end: Times) -> Times:
        """How much of them lies in each of the given spans, in ns."""
        return self._until(end) - self._until(start)

    def _until(self, times: Times) -> Times:
        lengths = np.append(0, np.cumsum(self.end - self.start))
        place = np.searchsorted(self.start, times, "right")
        before = np.maximum(place - 1, 0)
        if not len(self):
            return np.zeros(len(times), np.int64)
        over = np.maximum(self.end[before] - times, 0)
        return np.where(place > 0, lengths[place] - over, 0)


def union(start: Times, end: Times) -> Intervals:
    """Of intervals in any order that may overlap; empty ones are left out."""
    lasting = end > start
    start, end = start[lasting], end[lasting]
    if not len(start):
        return Intervals(start, end)
    if (start[1:] < start[:-1]).any():
        order = np.argsort(start, kind="stable")
        start, end = start[order], end[order]
    reached = np.maximum.accumulate(end)
    fresh = np.append(True, start[1:] > reached[:-1])
    last = np.append(fresh[1:], True)
    return Intervals(start[fresh], reached[last])
