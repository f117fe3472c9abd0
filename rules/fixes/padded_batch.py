"""Batches of rows that are filled up to one length, and the mask that says so.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from .nested import Nested

IGNORED = -100
"""What torch's losses leave out."""


class Unpadded(Exception):
    """The batch has nothing to cut; the message says why."""


@dataclass(frozen=True)
class PaddedBatch:
    """What is known of one batch.

    Attributes:
        mask: Rows by places. valid: The same, True where a place holds data.
        length: Places of each row. longest: Of them, those that any row needs.
    """

    mask: Any
    valid: Any
    length: int
    longest: int

    def is_long(self, tensor: Any) -> bool:
        """Whether the tensor's second dimension are these places."""
        shape = tensor.shape
        return len(shape) >= 2 and shape[0] == self.mask.shape[0] and shape[1] == self.length

    def cut(self, tensor: Any) -> Any:
        """The tensor without the places that no row needs."""
        if not self.is_long(tensor):
            return tensor
        part = tensor[:, : self.longest]
        return part if tensor.is_pinned() else part.contiguous()


def padded_batch(torch: Any, batch: Any) -> PaddedBatch:
    """Finds the mask of a batch.

    Raises:
        Unpadded: there is none, or rows are filled up at their beginning.
    """
    named = [(None, batch)] if not isinstance(batch, Mapping) else list(batch.items())
    found = [
        (name, tensor)
        for name, value in named
        for tensor in Nested(torch.Tensor).tensors(value)
        if _is_mask(torch, tensor)
    ]
    found.sort(key=lambda one: one[0] != "attention_mask")
    if not found:
        raise Unpadded("no mask lies in the batches")
    name, mask = found[0]
    first = mask[0, 0]
    at_start = bool((mask[:, 0] == first).all()) and (name != "attention_mask" or bool(first))
    if not at_start:
        raise Unpadded("rows are filled up at their beginning, not at their end")
    valid = mask == first
    used = valid.any(0).nonzero()
    return PaddedBatch(mask, valid, mask.shape[1], int(used.max()) + 1)


def _is_mask(torch: Any, tensor: Any) -> bool:
    if tensor.dim() != 2 or tensor.numel() == 0 or tensor.device.type != "cpu":
        return False
    if tensor.dtype == torch.bool:
        return True
    if tensor.is_floating_point() or tensor.is_complex():
        return False
    return bool(((tensor == 0) | (tensor == 1)).all())
