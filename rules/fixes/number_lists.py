"""Tensors of nested lists, made in one pass instead of number by number. Standard library only."""

from __future__ import annotations

import marshal
import math
import sys
from typing import Any

LEAST_NUMBERS = 64
"""Fewer are as quick the usual way."""
HEADER_BYTES = 5
"""Of a list or tuple in `marshal`'s second format: its kind, and its length in four bytes."""
Code = tuple[bytes, int, str]
CODES: dict[type, Code] = {float: (b"g", 8, "float64"), int: (b"i", 4, "int32")}
"""How `marshal` writes a number: code, bytes behind it, and what these are. Only exact floats and
ints get these codes: no bool, no number of NumPy's, no int beyond 32 bits."""
OF_NUMPY = ("float16", "float32", "float64", "uint8", "int8", "int16", "int32", "int64", "bool")
"""Types of arrays that are tensors of the same type."""


def quick_tensor(torch: Any, data: Any, dtype: Any = None) -> Any:
    """What `torch.tensor(data, dtype=dtype)` gives, bit for bit.

    Args:
        torch: The user's torch.
        data: Nested lists or tuples of one shape, all of floats or all of ints; or a list of NumPy
            arrays of one shape and type.
        dtype: Wanted; None for what torch makes of such numbers.

    Returns:
        The tensor, or None where this is not what it is for.
    """
    if type(data) not in (list, tuple) or not data or sys.byteorder != "little":
        return None
    numpy = sys.modules.get("numpy")
    if numpy is not None and type(data[0]) is numpy.ndarray:
        return _stacked(torch, numpy, data, dtype)
    lengths, kinds, first = [], [], data
    while type(first) in (list, tuple) and first:
        lengths.append(len(first))
        kinds.append(b"[" if type(first) is list else b"(")
        first = first[0]
    code = CODES.get(type(first))
    wanted = _type_of(torch, type(first), dtype)
    if code is None or wanted is None or math.prod(lengths) < LEAST_NUMBERS:
        return None
    return _numbers(torch, data, list(zip(kinds, lengths, strict=True)), code, wanted)


def _type_of(torch: Any, kind: type, dtype: Any) -> Any:
    """Of the tensor; None where the numbers would have to be converted in another way."""
    if kind is float:
        wanted = dtype if dtype is not None else torch.get_default_dtype()
        return wanted if wanted.is_floating_point else None
    wanted = dtype if dtype is not None else torch.int64
    return wanted if wanted in (torch.int32, torch.int64, torch.float32, torch.float64) else None


def _numbers(
    torch: Any,
    data: Any,
    levels: list[tuple[bytes, int]],
    code: tuple[bytes, int, str],
    wanted: Any,
) -> Any:
    """Reads the numbers out of what `marshal` writes, if it is as regular as its beginning."""
    letter, width, kind = code
    sizes = [1 + width]  # bytes of a number, of a row, of a list of rows, ...
    for _, length in reversed(levels):
        sizes.append(HEADER_BYTES + length * sizes[-1])
    try:
        written = bytearray(marshal.dumps(data, 2))
    except ValueError:  # of what it cannot write
        return None
    if len(written) != sizes.pop():
        return None
    view = torch.frombuffer(written, dtype=torch.uint8)
    for mark, length in levels:
        header = torch.tensor(list(mark + length.to_bytes(4, "little")), dtype=torch.uint8)
        if not bool((view[..., :HEADER_BYTES] == header).all()):
            return None
        view = view[..., HEADER_BYTES:].unflatten(-1, (length, sizes.pop()))
    if not bool((view[..., 0] == letter[0]).all()):
        return None
    numbers = view[..., 1:].clone(memory_format=torch.contiguous_format)
    numbers = numbers.view(getattr(torch, kind)).squeeze(-1)
    return torch.empty(numbers.shape, dtype=wanted).copy_(numbers)


def _stacked(torch: Any, numpy: Any, arrays: Any, dtype: Any) -> Any:
    first = arrays[0]
    kind = first.dtype
    if kind.name not in OF_NUMPY or not kind.isnative or first.ndim == 0 or first.size == 0:
        return None
    for array in arrays:
        if type(array) is not numpy.ndarray or array.dtype != kind or array.shape != first.shape:
            return None
    own = getattr(torch, kind.name)
    if dtype is not None and dtype != own:
        return None
    result = torch.empty((len(arrays), *first.shape), dtype=own)
    numpy.stack(arrays, out=result.numpy())
    return result
