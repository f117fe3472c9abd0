"""Some of many things, drawn evenly: every n-th of layers that repeat would be one and the same."""

from __future__ import annotations

from random import Random
from typing import TypeVar

Thing = TypeVar("Thing")


def drawn(things: list[Thing], most: int) -> tuple[list[Thing], float]:
    """At most `most` of them, always the same ones of as many, and how many each stands for.

    With a generator of its own: the script's random numbers stay as they are.
    """
    if len(things) <= most:
        return things, 1.0
    return Random(len(things)).sample(things, most), len(things) / most
