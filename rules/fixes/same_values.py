"""Whether two batches, or two samples, are the same bit for bit. Standard library only."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any


def same_bits(torch: Any, one: Any, other: Any) -> bool:
    """Whether two tensors are the same: type, shape, layout, NaN and signs of zeros included."""
    if one.dtype != other.dtype or one.shape != other.shape or one.device != other.device:
        return False
    if one.layout != torch.strided or other.layout != torch.strided:
        return False
    if one.stride() != other.stride() or one.requires_grad != other.requires_grad:
        return False
    if one.is_complex():
        one, other = torch.view_as_real(one), torch.view_as_real(other)
    if one.is_floating_point():
        size = one.element_size() * 8
        kind = getattr(torch, "uint8" if size == 8 else f"int{size}")
        one, other = one.contiguous().view(kind), other.contiguous().view(kind)
    return bool(torch.equal(one, other))


def same_values(torch: Any, one: Any, other: Any) -> bool:
    """The same for lists, tuples and mappings of tensors, NumPy arrays, numbers and texts.

    What cannot be compared counts as different.
    """
    if type(one) is not type(other):
        return False
    if isinstance(one, torch.Tensor):
        return same_bits(torch, one, other)
    numpy = sys.modules.get("numpy")
    if numpy is not None and isinstance(one, (numpy.ndarray, numpy.generic)):
        return bool(one.dtype == other.dtype and one.shape == other.shape) and (
            one.tobytes() == other.tobytes()
        )
    if isinstance(one, Mapping):
        keys = list(one) == list(other)
        return keys and all(same_values(torch, one[key], other[key]) for key in one)
    if isinstance(one, (list, tuple)):
        return len(one) == len(other) and all(
            same_values(torch, *pair) for pair in zip(one, other, strict=True)
        )
    if isinstance(one, float):
        return one == other or (one != one and other != other)
    return isinstance(one, (str, bytes, int, type(None))) and bool(one == other)
