"""Whether parameters keep their values, told from a few elements of each between two looks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .spread_elements import spread_elements

MOST_COMPARED = 32
"""Tensors that are compared, spread evenly over all; 5 us each and look."""
ELEMENTS = 32
"""Elements of each, spread evenly."""


class ComparedValues:
    """Compares on the agent's thread; only what lies on the CPU, as reading a device waits for it.

    Args:
        torch: The user's torch.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._values: dict[int, list[float]] = {}
        self._first_update: int | None = None
        self._changed = False
        self.updates = 0

    def look(self, parameters: Sequence[Any], updates: int) -> None:
        """Compares with the look before; `updates` are those of the training so far."""
        step = max(1, len(parameters) // MOST_COMPARED)
        for parameter in parameters[::step]:
            values = some_values(self._torch, parameter)
            if values is not None:
                before = self._values.setdefault(id(parameter), values)
                self._changed = self._changed or before != values
        if self._first_update is None:
            self._first_update = updates
        self.updates = updates - self._first_update

    @property
    def changed(self) -> bool | None:
        """Whether any value has changed since the first look; None where there was one look."""
        return self._changed if self._values and self.updates else None


def some_values(torch: Any, parameter: Any) -> list[float] | None:
    """Some elements of a plain tensor on the CPU, wherever they lie in its memory."""
    plain = type(parameter) in (torch.nn.Parameter, torch.Tensor)
    if not plain or parameter.device.type != "cpu" or parameter.layout != torch.strided:
        return None
    chosen = spread_elements(parameter, ELEMENTS)
    return None if chosen is None else [float(value) for value in chosen.tolist()]
