"""How much of a batch is padding: real batches in the loader's own order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from ...agent.describe.padding import (
    LEAST_LENGTH,
    MASKS,
    PaddedRows,
    are_full,
    by_equal_ends,
    by_mask,
    padding_figures,
)
from . import randomness
from .contents import is_array, is_numbers, is_tensor, leaves
from .items import Items

MOST_BATCHES = 24


def measure_padding(
    items: Items,
    collate: Callable[[Any], Any],
    order: Iterable[list[int]],
    size: int | None,
    deadline: float,
) -> dict[str, Any] | None:
    """The padding of up to 24 batches; None where rows are no sequences of different length.

    Args:
        items: Where the samples come from.
        collate: Makes a batch of them.
        order: The batch sampler.
        size: Samples in a batch; counts where the data set is iterated and there is no sampler.
        deadline: When it has to end.
    """
    batches: list[PaddedRows] = []
    randomness.seed(1)
    for count, samples in enumerate(items.batches(order, size)):
        if count >= MOST_BATCHES or (time.perf_counter() > deadline and count >= 2):
            break
        lengths, constant = _lengths_of(samples)
        seen = _padded(collate(list(samples)), len(samples), lengths, constant)
        if seen is None:
            return None
        batches.append(seen)
    if len(batches) < 2 or are_full(batches):
        return None
    return dict(padding_figures(batches))


def _lengths_of(samples: list[Any]) -> tuple[list[int] | None, set[int]]:
    """Of the first leaf that differs in length between samples; and lengths that all share."""
    shapes = [[_length(leaf) for _, leaf in leaves(sample)] for sample in samples]
    if len({len(shape) for shape in shapes}) != 1:
        return None, set()
    varying: list[int] | None = None
    constant = set()
    for column in zip(*shapes, strict=True):
        numbers = [length for length in column if length is not None]
        if len(numbers) == len(column) and len(set(numbers)) > 1:
            varying = varying or numbers
        constant |= {numbers[0]} if len(set(numbers)) == 1 else set()
    return varying, constant


def _length(leaf: Any) -> int | None:
    if (is_tensor(leaf) or is_array(leaf)) and leaf.ndim >= 1:
        return int(leaf.shape[0])
    return len(leaf) if is_numbers(leaf) else None


def _padded(
    batch: Any, count: int, lengths: list[int] | None, constant: set[int]
) -> PaddedRows | None:
    """By the mask, else by the items' own lengths, else by equal values at the rows' ends."""
    tensors = [(path, leaf) for path, leaf in leaves(batch) if is_tensor(leaf) and leaf.ndim >= 2]
    for path, mask in tensors:
        name = path.rpartition(".")[2]
        if name in MASKS and mask.ndim == 2 and len(mask) == count:
            return by_mask(name, mask)
    for _, tensor in tensors:
        row = 0 if len(tensor) == count else 1 if tensor.shape[1] == count else None
        if row is None or tensor.shape[1 - row] < LEAST_LENGTH:
            continue
        longest = int(tensor.shape[1 - row])
        if lengths is not None and longest not in constant:
            return [min(length, longest) for length in lengths], longest
        if lengths is None and row == 0 and tensor.ndim == 2 and not tensor.is_floating_point():
            ended = by_equal_ends(tensor)
            if ended is not None:
                return ended, longest
    return None
