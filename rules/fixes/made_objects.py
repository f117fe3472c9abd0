"""Which of the objects that a script makes a fix is for. Standard library only."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any


class MadeAt:
    """Chooses objects by the line that makes them.

    With a target: those of its line and type, or the one with its ordinal. Without one: as long as
    all come from one line. A second line makes the choice ambiguous, and so does a second call in
    that line (not a loop around one call); it is refused from there on, never guessed.
    """

    def __init__(self, target: Any) -> None:
        self._target = target
        self._counts: dict[tuple[str, int, str], int] = {}
        self._only: tuple[str, int] | None = None
        self._calls: list[Any] = []  # in the line that is meant, by their instruction
        self._named_call: Any = None  # the one that made the object with the ordinal
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
            return self._only_call(where)
        if line != (self._target.file, self._target.line):
            return False
        if self._target.type is not None and kind != self._target.type:
            return False
        if self._target.ordinal is None:
            return self._only_call(where)
        return self._has_ordinal(where, (line[0], line[1], kind))

    def _only_call(self, where: Mapping[str, Any]) -> bool:
        """Whether no other call of the line has made one."""
        self._note(where)
        self.ambiguous = self.ambiguous or len(self._calls) > 1
        return not self.ambiguous

    def _has_ordinal(self, where: Mapping[str, Any], key: tuple[str, int, str]) -> bool:
        """Whether it is the one meant, or comes from its call again where the line has several."""
        self._note(where)
        place = self._counts.get(key, 0)
        self._counts[key] = place + 1
        call = where.get("instruction")
        if place == self._target.ordinal:
            self._named_call = call
            return True
        several = len(self._calls) > 1
        return several and call is not None and call == self._named_call

    def _note(self, where: Mapping[str, Any]) -> None:
        if where.get("instruction") not in self._calls:
            self._calls.append(where.get("instruction"))

    def why_none(self, what: str) -> str:
        """Why nothing was chosen."""
        if self.ambiguous and (self._target is not None or len(self.lines) == 1):
            line = self.lines[0] if self._target is None else self._wanted()
            return f"several {what}s are made at {line}; name one, as in at={line}#0"
        if self.ambiguous:
            return f"{what}s are made at {' and '.join(self.lines)}; name one of them"
        if not self.lines:
            return f"the script makes no {what}"
        if self._target is None:
            return f"no {what} was chosen"
        return f"no {what} is made at {self._wanted()}; there is one at {', '.join(self.lines[:3])}"

    def _wanted(self) -> str:
        return f"{self._target.file}:{self._target.line}"
