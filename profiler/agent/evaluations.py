"""How a validation calls the model: read from its marks, on the agent's thread."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from . import marks as m

Mark = tuple[Any, ...]


class RecentMarks:
    """The marks of the last two deliveries: a step, and so a validation, ends in one of them.

    Of a validation that takes longer than two deliveries (0.2 s) only the end is looked at: its
    forwards are all alike.
    """

    def __init__(self) -> None:
        self._before: list[Mark] = []
        self._latest: list[Mark] = []

    def keep(self, arrived: list[Mark]) -> None:
        """Takes the next delivery, forgets the last but one."""
        self._before, self._latest = self._latest, arrived

    def evaluation(self, start_ns: int, duration_ns: int) -> dict[str, int]:
        """Forwards in evaluation mode between two times, and those with gradients enabled."""
        return count_forwards([*self._before, *self._latest], start_ns, start_ns + duration_ns)


def count_forwards(marks: Iterable[Mark], start_ns: int, end_ns: int) -> dict[str, int]:
    """Payload of a "validation" event: forwards of modules that evaluate, and how they run."""
    forwards = with_grad = 0
    for mark in marks:
        if mark[0] == m.FORWARD and start_ns <= mark[1] <= end_ns:
            bits = mark[3] or 0
            if not bits & m.FORWARD_TRAINING:
                forwards += 1
                with_grad += bool(bits & m.FORWARD_GRAD)
    return {"forwards": forwards, "with_grad": with_grad}
