"""How much of a batch is padding: real batches in the loader's own order."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable
from typing import Any

from . import randomness
from .contents import is_array, is_numbers, is_tensor, leaves
from .items import Items

MOST_BATCHES = 24
LEAST_LENGTH = 4
"""A sequence: the middle of the second dimensions seen is longer."""
MOST_PADDING_INSIDE = 0.1
"""Part of the real places that may hold the value of the padding."""
_MASKS = ("attention_mask", "mask", "padding_mask", "src_key_padding_mask")

Seen = tuple[list[int], int]
"""The real lengths of a batch's rows, and the length to which they are padded."""


def measure_padding(
    items: Items, collate: Callable[[Any], Any], order: Iterable[list[int]], deadline: float
) -> dict[str, Any] | None:
    """The padding of up to 24 batches; None where rows are no sequences of different length."""
    batches: list[Seen] = []
    randomness.seed(1)
    for count, indices in enumerate(order):
        if count >= MOST_BATCHES or (time.perf_counter() > deadline and count >= 2):
            break
        samples = [items.fetch(index) for index in indices]
        lengths, constant = _lengths_of(samples)
        seen = _padded(collate(list(samples)), len(samples), lengths, constant)
        if seen is None:
            return None
        batches.append(seen)
    if len(batches) < 2:
        return None
    return _figures(batches)


def _figures(batches: list[Seen]) -> dict[str, Any] | None:
    lengths = sorted(length for rows, _ in batches for length in rows)
    if lengths[0] == lengths[-1] == batches[0][1]:
        return None  # fixed-length data
    real = sum(lengths)
    places = sum(len(rows) * longest for rows, longest in batches)
    size = max(len(rows) for rows, _ in batches)
    groups = [lengths[place : place + size] for place in range(0, len(lengths), size)]
    return {
        "padding_batches": len(batches),
        "padding_share": 1.0 - real / places,
        "padding_share_to_longest": 1.0 - real / sum(len(r) * max(r) for r, _ in batches),
        "padding_share_grouped": 1.0 - real / sum(len(g) * max(g[-1], 1) for g in groups),
        "length_median": lengths[len(lengths) // 2],
        "length_p90": lengths[len(lengths) * 9 // 10],
        "length_max": lengths[-1],
        "padded_length": max(longest for _, longest in batches),
        "padded_length_varies": len({longest for _, longest in batches}) > 1,
    }


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


def _padded(batch: Any, count: int, lengths: list[int] | None, constant: set[int]) -> Seen | None:
    """By the mask, else by the items' own lengths, else by equal values at the rows' ends."""
    tensors = [(path, leaf) for path, leaf in leaves(batch) if is_tensor(leaf) and leaf.ndim >= 2]
    for path, mask in tensors:
        if path.rpartition(".")[2] in _MASKS and mask.ndim == 2 and len(mask) == count:
            real = (mask != 0).sum(1).tolist()
            if path.endswith("key_padding_mask"):
                real = [mask.shape[1] - length for length in real]
            return real, int(mask.shape[1])
    for _, tensor in tensors:
        row = 0 if len(tensor) == count else 1 if tensor.shape[1] == count else None
        if row is None or tensor.shape[1 - row] < LEAST_LENGTH:
            continue
        longest = int(tensor.shape[1 - row])
        if lengths is not None and longest not in constant:
            return [min(length, longest) for length in lengths], longest
        if lengths is None and row == 0 and tensor.ndim == 2 and not tensor.is_floating_point():
            ended = _by_equal_ends(tensor)
            if ended is not None:
                return ended, longest
    return None


def _by_equal_ends(tensor: Any) -> list[int] | None:
    """Rows' lengths without the run of one value that most rows end in.

    None where that value is frequent before the run, too: then it is data (a one-hot row).
    """
    last = tensor[:, -1]
    value, times = last.unique(return_counts=True)
    common = value[times.argmax()]
    longest = tensor.shape[1]
    ends = (tensor != common).flip(1).int()
    has_other = ends.any(1)
    run = ends.argmax(1)
    # One equal value may be the text's own last token.
    lengths = [
        longest - (int(length) if other and length > 1 else 0)
        for length, other in zip(run.tolist(), has_other.tolist(), strict=True)
    ]
    padding = len(tensor) * longest - sum(lengths)
    inside = int((tensor == common).sum()) - padding
    return lengths if inside <= MOST_PADDING_INSIDE * sum(lengths) else None
