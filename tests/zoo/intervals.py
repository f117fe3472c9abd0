"""Wilson's interval for a proportion."""

from __future__ import annotations

import math
from dataclasses import dataclass

Z_95 = 1.959964
"""Two-sided 95 % quantile of the normal distribution."""


@dataclass(frozen=True)
class Rate:
    """So many of so many."""

    hits: int
    total: int

    @property
    def share(self) -> float | None:
        """hits / total; None of nothing."""
        return self.hits / self.total if self.total else None

    @property
    def interval(self) -> tuple[float, float] | None:
        """The 95 % interval (Wilson 1927), which stays within 0..1 also for few cases."""
        if not self.total:
            return None
        share, square = self.hits / self.total, Z_95**2 / self.total
        middle = (share + square / 2) / (1 + square)
        spread = math.sqrt(share * (1 - share) * square + square**2 / 4) / (1 + square)
        return max(middle - spread, 0.0), min(middle + spread, 1.0)

    def __str__(self) -> str:
        """E.g. `0.92 (0.80 to 0.97), 46 of 50`."""
        if self.share is None or self.interval is None:
            return "no case"
        low, high = self.interval
        return f"{self.share:.2f} ({low:.2f} to {high:.2f}), {self.hits} of {self.total}"


def rate_of(truths: list[bool]) -> Rate:
    """How many of them hold."""
    return Rate(sum(truths), len(truths))
