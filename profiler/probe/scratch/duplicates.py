"""Items that are the same as another: exact, by hash; and what near copies are known by."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Iterator
from typing import Any

from ...agent import guard
from .contents import digest
from .items import Items
from .sketches import MOST_SKETCHES, line, sketch

LEAST_HASHED = 50
MOST_VALIDATION = 20_000


class Contents:
    """The contents of a data set, by hash.

    Args:
        torch: The target's torch.
        items: The data set.

    Attributes:
        seen: How often each content was met.
    """

    def __init__(self, torch: Any, items: Items) -> None:
        self.seen: Counter[bytes] = Counter()
        self._torch = torch
        self._items = items

    def measure(self, deadline: float, sketches: str | None = None) -> dict[str, Any] | None:
        """Hashes items in random order until the time is up; the same seed before each.

        Args:
            deadline: When it has to end.
            sketches: File for what the first of them are compared by; made anew.

        Returns:
            None where items cannot be compared, or are too few.
        """
        count = 0
        lines: list[str] = []
        for item in self._items.everything():
            code = digest(item)
            if code is None:
                return None
            self.seen[code] += 1
            count += 1
            made = None
            if sketches is not None and count <= MOST_SKETCHES:
                made = guard.attempt("near copies", sketch, self._torch, item)
            if made is not None:
                lines.append(line(made, code))
            if time.perf_counter() > deadline:
                break
        if sketches is not None and len(lines) >= LEAST_HASHED:
            with open(sketches, "w") as file:
                file.writelines(lines)
        if count < LEAST_HASHED:
            return None
        return {
            "hashed_items": count,
            "hashed_all": self._items.are_all(count),
            "hashed_at_random": self._items.drawn_at_random,
            "distinct_items": len(self.seen),
            "equal_pairs": sum(times * (times - 1) // 2 for times in self.seen.values()),
        }

    def compare(self, validation: Items, deadline: float) -> dict[str, Any] | None:
        """How many items of another data set are among these contents.

        None where either has no contents to compare, or too few were looked at.
        """
        count = known = 0
        for code in _codes(validation):
            if code is None:
                return None
            known += code in self.seen
            count += 1
            if count >= MOST_VALIDATION or time.perf_counter() > deadline:
                break
        if count < LEAST_HASHED or self.seen.total() < LEAST_HASHED:
            return None
        return {
            "validation_length": validation.length if validation.drawn_at_random else None,
            "validation_hashed": count,
            "validation_known": known,
            "validation_all": validation.are_all(count),
        }


def _codes(items: Items) -> Iterator[bytes | None]:
    return (digest(item) for item in items.everything())
