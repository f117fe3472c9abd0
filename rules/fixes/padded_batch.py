"""Batches of rows that are filled up to one length, and what says where the padding is.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .nested import Nested

IGNORED = -100
"""What torch's losses leave out."""
LEAST_ROWS = 2
"""Of a table without a mask: what one row ends in is common to all by chance."""


class Unpadded(Exception):
    """The batch has nothing to cut; the message says why."""


@dataclass(frozen=True)
class PaddedBatch:
    """What is known of one batch.

    Attributes:
        table: Rows by places: the mask, or without one the whole numbers that end in a fill value.
        valid: The same, True where a place holds data.
        length: Places of each row. longest: Of them, those that any row needs.
        fill: What rows are filled up with; None where a mask says what is padding.
    """

    table: Any
    valid: Any
    length: int
    longest: int
    fill: int | None = None

    def is_long(self, tensor: Any) -> bool:
        """Whether the tensor's second dimension are these places."""
        shape = tensor.shape
        return len(shape) >= 2 and shape[0] == self.table.shape[0] and shape[1] == self.length

    def cut(self, tensor: Any) -> Any:
        """The tensor without the places that no row needs."""
        if not self.is_long(tensor):
            return tensor
        part = tensor[:, : self.longest]
        return part if tensor.is_pinned() else part.contiguous()


def padded_batch(torch: Any, batch: Any, fill: int | None = None) -> PaddedBatch:
    """Finds the mask of a batch, or without one a table of numbers whose rows are filled up.

    Args:
        torch: The user's torch.
        batch: What a loader delivers.
        fill: What rows without a mask have to end in; None for any value.

    Raises:
        Unpadded: there is neither, or rows are filled up at their beginning.
    """
    named = [(None, batch)] if not isinstance(batch, Mapping) else list(batch.items())
    found = [
        (name, tensor)
        for name, value in named
        for tensor in Nested(torch.Tensor).tensors(value)
        if _is_table(torch, tensor)
    ]
    masks = [one for one in found if _is_mask(torch, one[1])]
    masks.sort(key=lambda one: one[0] != "attention_mask")
    if not masks:
        return _filled_up([tensor for _, tensor in found], fill)
    name, mask = masks[0]
    first = mask[0, 0]
    at_start = bool((mask[:, 0] == first).all()) and (name != "attention_mask" or bool(first))
    if not at_start:
        raise Unpadded("rows are filled up at their beginning, not at their end")
    valid = mask == first
    used = valid.any(0).nonzero()
    return PaddedBatch(mask, valid, mask.shape[1], int(used.max()) + 1)


def _is_table(torch: Any, tensor: Any) -> bool:
    if tensor.dim() != 2 or tensor.numel() == 0 or tensor.device.type != "cpu":
        return False
    return tensor.dtype == torch.bool or not (tensor.is_floating_point() or tensor.is_complex())


def _is_mask(torch: Any, table: Any) -> bool:
    return table.dtype == torch.bool or bool(((table == 0) | (table == 1)).all())


def _filled_up(tables: list[Any], wanted: int | None) -> PaddedBatch:
    """The first table whose rows all end in one value, and the places that a table needs."""
    for table in tables:
        fill = int(table[0, -1])
        if len(table) < LEAST_ROWS or (wanted is not None and fill != wanted):
            continue
        if not bool((table[:, -1] == fill).all()):
            continue
        same = [one for one in tables if one.shape == table.shape]
        valid = _before_the_end(table)
        for other in same:
            if other is not table:  # such as labels, which may end in a value of their own
                valid = valid | _before_the_end(other)
        longest = int(valid.any(0).sum())
        if longest:
            return PaddedBatch(table, valid, table.shape[1], longest, fill)
    raise Unpadded("no mask lies in the batches, nor rows of whole numbers with a common end")


def _before_the_end(table: Any) -> Any:
    """True up to the last place of each row that differs from the row's end."""
    return (table != table[:, -1:]).flip(1).cumsum(1).flip(1) > 0
