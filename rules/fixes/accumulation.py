"""How many micro-batches an update has: learnt from the first updates. Standard library only."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

EQUAL_UPDATES = 3
"""That many in a row with the same number of forwards tell it."""
MOST_UPDATES = 20
"""Within which it has to show."""
PROBES = 4
"""Parameters whose gradients are looked at."""


class Accumulation:
    """Counts the forwards with gradients between two updates of one model.

    Attributes:
        forwards: Since the latest update.
        period: Forwards per update, once it is known.
        refused: Why it cannot be told.
    """

    def __init__(self, parameters: Iterable[Any]) -> None:
        self.parameters = [one for one in parameters if one.requires_grad]
        self.forwards = 0
        self.period: int | None = None
        self.refused: str | None = None
        self._ids = {id(one) for one in self.parameters}
        self._counts: list[int] = []
        self._noted: list[tuple[Any, tuple[int, int]]] = []

    @property
    def learning(self) -> bool:
        """Whether the period is still to be told."""
        return self.period is None and self.refused is None

    def is_held_by(self, optimizer: Any) -> bool:
        """Whether the optimizer updates any of the parameters."""
        return any(self.holds(group["params"]) for group in optimizer.param_groups)

    def holds(self, parameters: Iterable[Any]) -> bool:
        """Whether any of these is one of the model's."""
        return any(id(one) in self._ids for one in parameters)

    def forward_begins(self) -> None:
        """Gradients have to be as the backward before left them."""
        if self.learning and self.forwards and any(_state(p) != s for p, s in self._noted):
            self.refused = "the script uses or changes gradients between the backwards of an update"
        self.forwards += 1

    def backward_ended(self) -> None:
        """Remembers how gradients were left, in the training thread."""
        if self.learning:
            found = ((one, _state(one)) for one in self.parameters)
            some = [(one, state) for one, state in found if state is not None]
            self._noted = [some[0], *some[1 - PROBES :]] if len(some) >= PROBES else some

    def update_begins(self) -> None:
        """Compares with the updates before."""
        count, self.forwards = self.forwards, 0
        if not count or not self.learning:
            return
        self._counts.append(count)
        latest = self._counts[-EQUAL_UPDATES:]
        if len(latest) == EQUAL_UPDATES and len(set(latest)) == 1:
            self.period = count
        elif len(self._counts) >= MOST_UPDATES:
            self.refused = "its updates have different numbers of micro-batches"


def _state(parameter: Any) -> tuple[int, int] | None:
    """Changes with whatever writes to the gradient; no value is read."""
    gradient = parameter.grad
    if gradient is None or gradient.is_sparse:
        return None
    return gradient.data_ptr(), gradient._version
