"""The difference between two groups of runs, with an interval that knows of noise between runs.

Steps of one run resemble each other more than those of two equal runs: memory is laid out
otherwise, a neighbour came, the clock of the CPU is another. However many steps a run has, that
stays. With three runs a group it is measured: Student's interval of the difference of two means,
with the deviation pooled over both groups, since equal runs on one machine scatter alike. With
fewer it cannot be, and a floor is assumed that the caller states.
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

from trainprof.rules.statistics.student import student_quantile

LEVEL = 0.95
"""Of the two-sided interval."""

LEAST_RUNS = 3
"""Of each group, for the deviation between runs to be measured."""

Z975 = 1.95996
"""97.5 % quantile of the normal distribution."""

MOST_RUNS_ADVISED = 50
"""Of each group; where more are needed, the machine is too noisy for the question."""


@dataclass(frozen=True, slots=True)
class Observation:
    """What one run tells.

    Attributes:
        value: Its mean.
        sampling: Standard deviation of that mean, by the scatter of the run's own steps.
        between: Standard deviation assumed between equal runs, where too few tell it.
    """

    value: float
    sampling: float
    between: float


@dataclass(frozen=True, slots=True)
class Difference:
    """Mean of the candidate minus mean of the base.

    Attributes:
        deviation: Between equal runs, as it was used.
        assumed: It is the floor, and was not measured.
        sampling: Root mean square of the runs' own standard deviations.
    """

    point: float
    low: float
    high: float
    deviation: float
    assumed: bool
    sampling: float
    paired: bool = False


def group_difference(base: Sequence[Observation], candidate: Sequence[Observation]) -> Difference:
    """The difference of two groups and its 95 % interval.

    Raises:
        ValueError: a group is empty.
    """
    if not base or not candidate:
        raise ValueError("each group needs a run")
    point = _mean(candidate) - _mean(base)
    both = (*base, *candidate)
    freedom = len(both) - 2
    sampling = _root_mean_square([one.sampling for one in both])
    pooled = math.sqrt((_squares(base) + _squares(candidate)) / freedom) if freedom else 0.0
    if min(len(base), len(candidate)) >= LEAST_RUNS:
        deviation = max(pooled, sampling)
        half = _half_width(deviation, freedom, len(base), len(candidate))
        return Difference(point, point - half, point + half, deviation, False, sampling)
    between = max(_root_mean_square([one.between for one in both]), pooled)
    half = Z975 * math.sqrt(_variance(base, pooled) + _variance(candidate, pooled))
    return Difference(point, point - half, point + half, between, True, sampling)


def paired_difference(base: Sequence[Observation], candidate: Sequence[Observation]) -> Difference:
    """The mean difference of pairs with its 95 % interval: Student's, of the pairs' differences.

    What both runs of a pair have seen of the machine falls out.

    Raises:
        ValueError: fewer than two pairs, or groups of different lengths.
    """
    count = len(base)
    if count < 2 or count != len(candidate):
        raise ValueError("pairs need two runs of either group, and as many of both")
    gaps = [new.value - old.value for old, new in zip(base, candidate, strict=True)]
    sampling = _root_mean_square([one.sampling for one in (*base, *candidate)])
    deviation = max(statistics.stdev(gaps), math.sqrt(2.0) * sampling)
    point, half = statistics.fmean(gaps), _paired_half_width(deviation, count)
    equal = deviation / math.sqrt(2.0)
    return Difference(point, point - half, point + half, equal, False, sampling, paired=True)


def runs_to_decide(distance: float, deviation: float, *, paired: bool = False) -> int | None:
    """Runs of each group with which no difference could be told from one of `distance`.

    None where that would take more than `MOST_RUNS_ADVISED`.
    """
    for runs in range(LEAST_RUNS, MOST_RUNS_ADVISED + 1):
        half = (
            _paired_half_width(math.sqrt(2.0) * deviation, runs)
            if paired
            else _half_width(deviation, 2 * runs - 2, runs, runs)
        )
        if half < distance:
            return runs
    return None


def _paired_half_width(deviation: float, pairs: int) -> float:
    return student_quantile((1.0 + LEVEL) / 2.0, pairs - 1) * deviation / math.sqrt(pairs)


def _half_width(deviation: float, freedom: int, base: int, candidate: int) -> float:
    quantile = student_quantile((1.0 + LEVEL) / 2.0, freedom)
    return quantile * deviation * math.sqrt(1.0 / base + 1.0 / candidate)


def _mean(group: Sequence[Observation]) -> float:
    return math.fsum(one.value for one in group) / len(group)


def _squares(group: Sequence[Observation]) -> float:
    mean = _mean(group)
    return math.fsum((one.value - mean) ** 2 for one in group)


def _variance(group: Sequence[Observation], pooled: float) -> float:
    """Of the group's mean, with the deviation between runs assumed."""
    variances = (one.sampling**2 + max(one.between, pooled) ** 2 for one in group)
    return math.fsum(variances) / len(group) ** 2


def _root_mean_square(values: Sequence[float]) -> float:
    return math.sqrt(math.fsum(value * value for value in values) / len(values))
