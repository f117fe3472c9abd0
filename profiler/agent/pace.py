"""Doing something dear seldom enough: at most a small part of the time goes into it."""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from types import TracebackType

PART_OF_TIME = 500
"""The next time is so many times as far away as the last one took: 0.2 % of the time."""


class Pace:
    """Says when it is time again, and measures how long it takes: `with pace: ...`.

    Args:
        now: A clock in nanoseconds.
    """

    def __init__(self, now: Callable[[], int] = perf_counter_ns) -> None:
        self._now = now
        self._due_ns = self._began_ns = 0

    def due(self) -> bool:
        """Whether it is time again."""
        return self._now() >= self._due_ns

    def __enter__(self) -> None:
        self._began_ns = self._now()

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        end_ns = self._now()
        self._due_ns = end_ns + PART_OF_TIME * (end_ns - self._began_ns)
