"""Means of a time series with honest intervals: block bootstrap over windows of steps.

Steps are not independent: batches of W loader workers come in bursts of W, caches warm up,
neighbours come and go. So whole blocks of neighbouring steps are drawn, and every mean is a ratio
of sums over windows, never a median of single steps (with prefetching workers the median of a step
was measured at a third of the mean).
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

LEVEL = 0.90
"""Probability that an interval is meant to hold the mean."""

RESAMPLES = 1_000
"""Resamples of the bootstrap; its own noise is then about 2 % of the interval's width."""

MOST_UNITS = 2_048
"""A longer series is summed to this many units first: blocking loses nothing but time."""

SEED = 20_480
"""Every interval is drawn with the same seed, so that one run gives one answer."""

Z95 = 1.6449
"""95 % quantile of the normal distribution: bounds of a two-sided 90 % interval."""

_STUDENT_95 = (6.314, 2.920, 2.353, 2.132, 2.015, 1.943, 1.895, 1.860, 1.833, 1.812)
"""95 % quantiles of Student's t for 1 to 10 degrees of freedom."""

Floats = NDArray[np.float64]


@dataclass(frozen=True, slots=True)
class Interval:
    """A mean and its 90 % interval; the bounds are None where one observation tells no spread."""

    mean: float
    low: float | None
    high: float | None


def unit_edges(count: int, most: int = MOST_UNITS) -> NDArray[np.int64]:
    """Where the units of a series of `count` steps begin: equal lengths, at most `most`."""
    size = max(1, -(-count // most))
    return np.arange(0, count, size, dtype=np.int64)


def unit_sums(column: NDArray[Any], edges: NDArray[np.int64]) -> Floats:
    """Sum of a column over each unit."""
    return np.add.reduceat(column, edges).astype(np.float64)


def block_length(units: int, steps_per_unit: int, least_steps: int) -> int:
    """Units in a block: at least `least_steps` steps, and twice the cube root of the series.

    The cube root is the rate at which the best length grows (Hall, Horowitz and Jing 1995); twice
    of it keeps the promise also where neighbours resemble each other (correlation 0.5, simulated
    in the tests). A series of less than two such blocks gives the shorter blocks it can.
    """
    wished = max(-(-least_steps // steps_per_unit), round(2 * units ** (1 / 3)), 1)
    return int(max(1, min(wished, units // 2)))


def ratio_intervals(
    numerators: Sequence[Floats], denominator: Floats, block: int
) -> tuple[Interval, ...]:
    """Sum of each numerator over the sum of the denominator, with intervals.

    Circular block bootstrap (Politis and Romano 1992) of all series together; the bounds are
    widened for few blocks as Student's t widens a normal interval.

    Args:
        numerators: Series of equal length, one value per unit.
        denominator: What they are divided by; its sum must be positive.
        block: Units in a block.
    """
    total = float(denominator.sum())
    means = [float(series.sum()) / total for series in numerators]
    units = len(denominator)
    if units < 2:
        return tuple(Interval(mean, None, None) for mean in means)
    blocks = -(-units // block)
    starts = np.random.default_rng(SEED).integers(0, units, size=(RESAMPLES, blocks))
    below = _resampled(denominator, starts, block)
    widening = _widening(units / block)
    intervals = []
    for series, mean in zip(numerators, means, strict=True):
        ratios = _resampled(series, starts, block) / below
        tail = (1.0 - LEVEL) / 2.0
        below_mean, above_mean = np.quantile(ratios, [tail, 1.0 - tail]).tolist()
        low = mean - widening * max(mean - below_mean, 0.0)
        high = mean + widening * max(above_mean - mean, 0.0)
        if series.min() >= 0.0:
            low = max(low, 0.0)  # times and counts have no mean below zero
        intervals.append(Interval(mean, low, high))
    return tuple(intervals)


def mean_interval(values: Floats, block: int | None = None) -> Interval:
    """Mean of a series with its interval; blocks as long as suits the series by default."""
    if block is None:
        block = block_length(len(values), 1, 1)
    return ratio_intervals([values], np.ones(len(values)), block)[0]


def _resampled(series: Floats, starts: NDArray[np.int64], block: int) -> Floats:
    """Sum of each resample: of blocks that may run over the end into the beginning."""
    around = np.concatenate([[0.0], np.cumsum(np.concatenate([series, series[:block]]))])
    sums: Floats = around[block:] - around[:-block]
    totals: Floats = sums[starts].sum(axis=1)
    return totals


def _widening(blocks: float) -> float:
    """How much wider an interval from few blocks has to be than its bootstrap says."""
    freedom = max(math.floor(blocks) - 1, 1)
    unbiased = math.sqrt(blocks / (blocks - 1.0)) if blocks > 1.5 else math.sqrt(3.0)
    return student_95(freedom) / Z95 * unbiased


def student_95(freedom: int) -> float:
    """95 % quantile of Student's t: a table, then the Cornish-Fisher expansion (exact to 0.1 %)."""
    if freedom <= len(_STUDENT_95):
        return _STUDENT_95[freedom - 1]
    first = (Z95**3 + Z95) / (4 * freedom)
    second = (5 * Z95**5 + 16 * Z95**3 + 3 * Z95) / (96 * freedom**2)
    return Z95 + first + second
