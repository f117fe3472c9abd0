"""Does a quantity grow? Theil-Sen slope with its interval: one wild value moves neither."""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np

from trainprof.rules.statistics.intervals import Z95, Floats

MOST_POINTS = 300
"""More points are averaged in groups first: all pairs of 300 are 44,850 slopes, some 5 ms."""


@dataclass(frozen=True, slots=True)
class Trend:
    """A slope (value per unit of x) and its 90 % interval."""

    slope: float
    low: float
    high: float
    points: int

    @property
    def is_flat(self) -> bool:
        """Whether no growth at all is compatible with the data."""
        return self.low <= 0.0 <= self.high


def theil_sen(x: Floats, y: Floats) -> Trend | None:
    """The median of the slopes between all pairs of points, with Sen's interval (Sen 1968).

    None for fewer than four different x: no interval can be given.
    """
    x, y = _grouped(x), _grouped(y)
    count = len(x)
    first, second = np.triu_indices(count, k=1)
    run = x[second] - x[first]
    apart = run != 0.0
    if len(np.unique(x)) < 4:
        return None
    slopes = np.sort((y[second] - y[first])[apart] / run[apart])
    spread = Z95 * math.sqrt(count * (count - 1) * (2 * count + 5) / 18.0)
    last = len(slopes) - 1
    low = slopes[max(math.floor((last - spread) / 2.0), 0)]
    high = slopes[min(math.ceil((last + spread) / 2.0), last)]
    return Trend(float(np.median(slopes)), float(low), float(high), count)


def _grouped(values: Floats) -> Floats:
    if len(values) <= MOST_POINTS:
        return values
    return np.array([group.mean() for group in np.array_split(values, MOST_POINTS)])
