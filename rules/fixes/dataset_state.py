"""What a data set holds that workers would not share with the script. Standard library only."""

from __future__ import annotations

import random
from collections.abc import Iterator, Sized
from types import ModuleType
from typing import Any

DEPTH = 3
"""Data set, what it wraps or its transforms, and their parts."""
MOST_PARTS = 256
GENERATORS = ("numpy.random", "torch._C")
"""Modules whose classes Generator and RandomState draw numbers from a state of their own."""
PLAIN = (type(None), bool, int, float, complex, str, bytes)


def own_generator(dataset: Any) -> str | None:
    """Name of an attribute that holds a random generator: forked workers all draw its numbers."""
    for name, value in _attributes(dataset):
        kind = type(value)
        named = kind.__name__ in ("Generator", "RandomState")
        if isinstance(value, random.Random) or (named and kind.__module__.startswith(GENERATORS)):
            return name
    return None


def fingerprint(dataset: Any) -> tuple[Any, ...]:
    """Changes when an attribute does: another object, another length, an in-place operation."""
    return tuple((name, _mark(value)) for name, value in _attributes(dataset))


def changed_part(before: tuple[Any, ...], after: tuple[Any, ...]) -> str | None:
    """Name of the first attribute that two fingerprints tell apart."""
    return next(changed_parts(before, after), None)


def changed_parts(before: tuple[Any, ...], after: tuple[Any, ...]) -> Iterator[str]:
    """Names of all attributes that two fingerprints tell apart.

    What was None before, or not there, is something that was opened when it was first needed.
    """
    marks = dict(before)
    for name, mark in after:
        if marks.get(name) is not None and marks[name] != mark:
            yield str(name)


def _mark(value: Any) -> Any:
    if isinstance(value, PLAIN):
        return value
    return id(value), length_of(value), getattr(value, "_version", None)


def length_of(value: Any) -> int | None:
    """Of a container; None for anything else, and for arrays and tensors without a dimension."""
    if not isinstance(value, Sized) or hasattr(value, "dim"):
        return None
    try:
        return len(value)
    except TypeError:
        return None


def parts_of(holder: Any) -> list[Any]:
    """What a data set, or a collate function that is an object, holds beside numbers and texts."""
    return [value for _, value in _attributes(holder) if not isinstance(value, PLAIN)]


def _attributes(dataset: Any) -> Iterator[tuple[str, Any]]:
    """Attributes of the data set and of what it holds, with their dotted names."""
    waiting = [("", dataset, 0)]
    seen: set[int] = set()
    while waiting and len(seen) < MOST_PARTS:
        prefix, holder, depth = waiting.pop()
        if id(holder) in seen:
            continue
        seen.add(id(holder))
        for name, value in _members(holder):
            full = f"{prefix}.{name}" if prefix else name
            yield full, value
            if depth + 1 < DEPTH and not isinstance(value, (*PLAIN, ModuleType)):
                waiting.append((full, value, depth + 1))


def _members(holder: Any) -> list[tuple[str, Any]]:
    if isinstance(holder, (list, tuple)):  # of transforms, of data sets
        return [(str(place), one) for place, one in enumerate(holder[:8])]
    attributes = getattr(holder, "__dict__", None)
    return list(attributes.items()) if isinstance(attributes, dict) else []
