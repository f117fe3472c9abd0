"""Numbers and a sentence that loader workers tell the training process. Standard library only."""

from __future__ import annotations

import mmap
import os
from collections.abc import Sequence

SLOTS = 61
"""Processes that count beside each other; two of one slot could lose a count."""
TEXT_BYTES = 240
"""Below 256: one byte says how long the sentence is."""


class SharedCounts:
    """Lies in memory that forked processes share; each adds in a place of its own.

    Args:
        names: Of what is counted.
    """

    def __init__(self, *names: str) -> None:
        self._places = {name: place for place, name in enumerate(names)}
        numbers = SLOTS * len(names) * 8
        self._memory = mmap.mmap(-1, numbers + TEXT_BYTES)
        self._numbers = memoryview(self._memory)[:numbers].cast("q")
        self._text = memoryview(self._memory)[numbers:]

    def add(self, name: str, count: int = 1) -> None:
        """Adds to the count of this process."""
        slot = os.getpid() % SLOTS
        self._numbers[slot * len(self._places) + self._places[name]] += count

    def total(self, name: str) -> int:
        """Of all processes."""
        return sum(self._numbers[self._places[name] :: len(self._places)])

    def totals(self) -> dict[str, int]:
        """Of all processes, by name."""
        return {name: self.total(name) for name in self._places}

    def refuse(self, reason: str) -> None:
        """Says why the fix is off from now on, in every process; the first reason stays."""
        if self.refused is None:
            text = reason.encode("utf-8", "replace")[: TEXT_BYTES - 1]
            self._text[1 : len(text) + 1] = text
            self._text[0] = len(text)  # last: nobody reads half a sentence

    @property
    def off(self) -> bool:
        """Whether it was refused."""
        return self._text[0] != 0

    @property
    def refused(self) -> str | None:
        """Why it was refused; None where it was not."""
        length = self._text[0]
        return bytes(self._text[1 : length + 1]).decode("utf-8", "ignore") if length else None


def sentence_of(error: BaseException) -> str:
    """An error in one line."""
    first: Sequence[str] = str(error).split("\n", 1)
    return f"{type(error).__name__}: {first[0]}"[:120]
