"""Ratios of paired runs: the interval, and when enough pairs were looked at.

Every pair gives one log-ratio, log(T_old / T_new). Their mean has a Student interval: at 4 to 20
pairs it covers 96 % of the time where 95 % is said, while a bootstrap covers 77 to 92 % (simulated,
heavy-tailed noise). Looking after every pair would keep 11.7 % of changes that do nothing; three
planned looks, each at a third of the error, keep 2.1 % (simulated).
"""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from trainprof.rules.statistics.student import student_quantile

LOOKS = (6, 10, 16)
"""Numbers of pairs at which a decision may fall."""
ONE_SIDED_ERROR = 0.025
"""Of keeping what does nothing, over all looks."""
LEVEL = 0.95
"""Of the interval that is shown."""
LEAST_RATIO = 1.03
"""Point estimate of what is worth keeping."""
FUTILE_BELOW = 1.01
"""Upper end of the interval; below it no further pair is spent."""
POWER = 0.80
"""Chance to see the smallest effect that a number of pairs can detect."""


@dataclass(frozen=True, slots=True)
class Ratio:
    """T_old / T_new with its interval; the bounds are None of a single pair."""

    point: float
    low: float | None
    high: float | None
    pairs: int


def paired_ratio(log_ratios: Sequence[float], level: float = LEVEL) -> Ratio:
    """The ratio and its two-sided interval.

    Raises:
        ValueError: there is no pair.
    """
    count = len(log_ratios)
    if count == 0:
        raise ValueError("a ratio needs a pair")
    mean = statistics.fmean(log_ratios)
    point = math.exp(statistics.median(log_ratios) if count >= 8 else mean)
    if count == 1:
        return Ratio(point, None, None, 1)
    half = _half_width(log_ratios, (1.0 + level) / 2.0)
    return Ratio(point, math.exp(mean - half), math.exp(mean + half), count)


def decide(log_ratios: Sequence[float], tests: int = 1) -> str:
    """What so many pairs allow: "keep", "drop", "more", or "undecided" when all looks are used.

    Only at a planned look can the answer be "keep"; "drop" means that the change is no gain.

    Args:
        log_ratios: Of the pairs.
        tests: Changes that are tried at the same time. They share the error (Bonferroni): with
            three that do nothing, one in forty tunes would else keep two of them.
    """
    count = len(log_ratios)
    if count not in LOOKS:
        return "more"
    ratio = paired_ratio(log_ratios)
    if _deciding_log(log_ratios, tests) > 0.0 and ratio.point >= LEAST_RATIO:
        return "keep"
    if ratio.high is not None and ratio.high < FUTILE_BELOW:
        return "drop"
    return "undecided" if count == LOOKS[-1] else "more"


def deciding_low(log_ratios: Sequence[float], tests: int = 1) -> float | None:
    """The lower end that `decide` asks for: it must lie above 1 for "keep".

    None where so many pairs allow no decision.
    """
    return math.exp(_deciding_log(log_ratios, tests)) if len(log_ratios) in LOOKS else None


def _deciding_log(log_ratios: Sequence[float], tests: int) -> float:
    error = ONE_SIDED_ERROR / len(LOOKS) / tests
    return statistics.fmean(log_ratios) - _half_width(log_ratios, 1.0 - error)


def detectable(deviation: float, pairs: int) -> float:
    """The smallest ratio that so many pairs show four times in five.

    Args:
        deviation: Standard deviation of a log-ratio between equal runs.
        pairs: At least two.
    """
    degrees = pairs - 1
    quantiles = student_quantile(1 - 0.025, degrees) + student_quantile(POWER, degrees)
    return math.exp(quantiles * deviation / math.sqrt(pairs))


def _half_width(log_ratios: Sequence[float], probability: float) -> float:
    count = len(log_ratios)
    deviation = float(np.std(log_ratios, ddof=1))
    return student_quantile(probability, count - 1) * deviation / math.sqrt(count)
