"""Where to cut marks that turn out to hold several steps."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from . import marks as m

Mark = tuple[Any, ...]


def first_update_end(marks: Sequence[Mark], optimizer: int) -> int | None:
    """Position where the first update by `optimizer` ends; the very first mark does not count."""
    for position, mark in enumerate(marks):
        if position and mark[0] == m.OPTIMIZER_END and mark[2] == optimizer:
            return position
    return None


def after_first_backward(marks: Sequence[Mark]) -> int | None:
    """Where the step of the first backward group ends; None when it is the last group.

    It lasts until the next ask or forward; with neither in sight, until its backward ends.
    """
    ended = -1
    forwards = any(mark[0] == m.FORWARD for mark in marks)
    for position, mark in enumerate(marks):
        kind = mark[0]
        if kind == m.BACKWARD_END and position:
            ended = position
        elif ended >= 0 and (kind in (m.ASK, m.FORWARD) or (kind == m.BACKWARD and not forwards)):
            if not any(later[0] == m.BACKWARD for later in marks[position:]):
                return None
            return ended if kind == m.BACKWARD else position
    return None
