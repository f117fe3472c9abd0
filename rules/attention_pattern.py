"""Attention that is written out: a product, a softmax over it, and a product with the result."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from trainprof.rules.operator_table import Call

PRODUCTS = ("matmul", "bmm", "baddbmm", "einsum")
SOFTMAXES = ("softmax", "_softmax", "_safe_softmax", "_masked_softmax")
MASKS = ("masked_fill", "masked_fill_", "where", "tril", "tril_", "triu")

MOST_BEFORE = 14
"""Operators between the scores and their softmax: scaling, a mask that is made on the spot."""
MOST_AFTER = 8
"""Between the softmax and the product with the values: dropout, changes of type and shape."""


@dataclass(frozen=True, slots=True)
class Attention:
    """One attention.

    Attributes:
        calls: From the scores to the product with the values.
        length: Keys that each query looks at.
        masked: Part of the scores is masked.
    """

    calls: tuple[Call, ...]
    length: int
    masked: bool


def find_attention(calls: Sequence[Call]) -> Iterator[Attention]:
    """Every written-out attention among the calls of a forward, in order."""
    place = 0
    while place < len(calls):
        call = calls[place]
        if call.name in SOFTMAXES and _rank(call) >= 3:
            found = _around(calls, place)
            if found is not None:
                yield found[0]
                place = found[1]
        place += 1


def _around(calls: Sequence[Call], place: int) -> tuple[Attention, int] | None:
    """The attention around a softmax, and the place of its last product."""
    first = _nearest(calls, range(place - 1, max(place - MOST_BEFORE, 0) - 1, -1))
    last = _nearest(calls, range(place + 1, min(place + MOST_AFTER, len(calls))))
    if first is None or last is None:
        return None
    inside = tuple(calls[first : last + 1])
    length = calls[place].shapes[0][-1]
    masked = any(call.name in MASKS for call in inside)
    return Attention(inside, length, masked), last


def _nearest(calls: Sequence[Call], places: range) -> int | None:
    """The first product of two batches of matrices on the way; None behind anything learnt."""
    for place in places:
        call = calls[place]
        if call.name in PRODUCTS and len(call.shapes) >= 2:
            return place if min(len(shape) for shape in call.shapes[-2:]) >= 3 else None
        if call.name in ("linear", "addmm", *SOFTMAXES):
            return None
    return None


def _rank(call: Call) -> int:
    return len(call.shapes[0]) if call.shapes else 0
