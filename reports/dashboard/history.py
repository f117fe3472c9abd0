"""A quantity over the whole run in a bounded number of buckets."""

from __future__ import annotations

MOST_BUCKETS = 240


class History:
    """Sums and weights by time; the buckets get twice as wide whenever there are too many.

    Args:
        start_s: Where the first bucket begins.
        most: Buckets that are kept; an even number.
    """

    def __init__(self, start_s: float, most: int = MOST_BUCKETS) -> None:
        self.width_s = 1.0
        self._start_s = start_s
        self._most = most
        self._sums: list[float] = []
        self._weights: list[float] = []

    def add(self, at_s: float, value: float, weight: float = 1.0) -> None:
        """Adds a value at a time; what lies before the start counts to the first bucket."""
        index = max(0, int((at_s - self._start_s) / self.width_s))
        while index >= self._most:
            self._sums = _pairs(self._sums)
            self._weights = _pairs(self._weights)
            self.width_s *= 2
            index = int((at_s - self._start_s) / self.width_s)
        missing = index + 1 - len(self._sums)
        if missing > 0:
            self._sums += [0.0] * missing
            self._weights += [0.0] * missing
        self._sums[index] += value
        self._weights[index] += weight

    def means(self) -> list[float | None]:
        """The mean of each bucket, None where nothing was added."""
        return [
            total / weight if weight else None
            for total, weight in zip(self._sums, self._weights, strict=True)
        ]

    def rates(self, now_s: float) -> list[float | None]:
        """What was added per second, up to `now_s`; the bucket that is not over is left out."""
        count = int((now_s - self._start_s) / self.width_s)
        sums = [*self._sums, *[0.0] * (count - len(self._sums))][: max(0, count)]
        return [total / self.width_s for total in sums]


def _pairs(values: list[float]) -> list[float]:
    padded = [*values, 0.0] if len(values) % 2 else values
    return [padded[i] + padded[i + 1] for i in range(0, len(padded), 2)]
