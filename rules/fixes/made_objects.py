"""Which of the objects that a script makes a fix is for. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MadeAt:
    """Chooses objects by the line that makes them.

    With a target: those of its line and type, or the one with its ordinal. Without one: as long as
    all come from one line. A second line makes the choice ambiguous, and it is refused from there
    on, never guessed.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._counts: dict[tuple[str, int, str], int] = {}
        self._only: tuple[str, int] | None = None
        self.lines: list[str] = []
        self.ambiguous = False

    def chooses(self, where: Mapping[str, Any] | None, kind: str) -> bool:
        """Whether the object that is just being made is one of those meant."""
        if where is None:
            return False
        line = (str(where["file"]), int(where["line"]))
        name = f"{line[0]}:{line[1]}"
        if name not in self.lines:
            self.lines.append(name)
        if self._target is None:
            self._only = self._only or line
            self.ambiguous = self.ambiguous or line != self._only
            return not self.ambiguous
        if line != (self._target.file, self._target.line):
            return False
        if self._target.type is not None and kind != self._target.type:
            return False
        key = (line[0], line[1], kind)
        place = self._counts.get(key, 0)
        self._counts[key] = place + 1
        return self._target.ordinal is None or self._target.ordinal == place

    def why_none(self, what: str) -> str:
        """Why nothing was chosen."""
        if self.ambiguous:
            return f"{what}s are made at {' and '.join(self.lines)}; name one of them"
        if not self.lines:
            return f"the script makes no {what}"
        if self._target is None:
            return f"no {what} was chosen"
        wanted = f"{self._target.file}:{self._target.line}"
        return f"no {what} is made at {wanted}; there is one at {', '.join(self.lines[:3])}"
