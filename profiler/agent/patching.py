"""Patches that can be undone: what is replaced, by what, and how it was before."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

_ABSENT = object()


class Patches:
    """Every attribute the agent has replaced, in order; `undo` restores them in reverse."""

    def __init__(self) -> None:
        self._applied: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Sets `owner.name` to `make(original)`; the original may be inherited.

        Raises:
            AttributeError: `owner` has no attribute `name`.
        """
        original = getattr(owner, name)
        before = vars(owner).get(name, _ABSENT) if hasattr(owner, "__dict__") else original
        replacement = make(original)
        setattr(owner, name, replacement)
        self._applied.append((owner, name, before, replacement))

    def undo(self) -> None:
        """Restores every attribute that still holds our replacement; later patches by others stay.

        Where somebody wrapped our wrapper, it keeps working: wrappers of the agent pass straight
        through once the recorder is closed.
        """
        while self._applied:
            owner, name, before, replacement = self._applied.pop()
            current = vars(owner).get(name, _ABSENT)
            if current is not replacement:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


def like(original: Any, wrapper: Any) -> Any:
    """Gives the wrapper the original's name, documentation and signature."""
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        value = getattr(original, name, None)
        if value is not None:
            setattr(wrapper, name, value)
    wrapper.__wrapped__ = original
    return wrapper
