"""A share that was counted, with an honest interval."""

from __future__ import annotations

import math

from trainprof.rules.statistics.intervals import Z95, Interval


def wilson(count: int, total: int) -> Interval:
    """`count` of `total` observations, with the 90 % score interval of Wilson (1927)."""
    if total <= 0:
        return Interval(math.nan, None, None)
    share, z2 = count / total, Z95**2
    middle = (share + z2 / (2 * total)) / (1 + z2 / total)
    half = Z95 / (1 + z2 / total) * math.sqrt(share * (1 - share) / total + z2 / (4 * total**2))
    return Interval(share, max(middle - half, 0.0), min(middle + half, 1.0))
