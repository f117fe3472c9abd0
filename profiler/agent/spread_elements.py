"""A few elements of a tensor that stand for all of them, read where they lie in memory."""

from __future__ import annotations

from typing import Any


def is_in_memory(tensor: Any) -> bool:
    """Whether all elements lie in the tensor's storage, one behind the other in some order.

    False for expanded tensors, for parameters whose memory was given back for now (as sharded ones
    are), and for wrappers without a storage of their own.
    """
    try:
        stored = tensor.untyped_storage().nbytes() // tensor.element_size()
    except (NotImplementedError, RuntimeError):  # what torch raises for such wrappers
        return False
    return bool(tensor.storage_offset() + tensor.numel() <= stored)


def spread_elements(tensor: Any, most: int) -> Any:
    """At most `most` elements of a plain tensor, spread evenly over its memory; None without any.

    The distance is odd, so that it does not stay in one column.
    """
    count = tensor.numel()
    if not count or not is_in_memory(tensor):
        return None
    chosen = min(count, most)
    stride = count // chosen
    stride -= 1 - stride % 2
    return tensor.detach().as_strided((chosen,), (max(stride, 1),), tensor.storage_offset())
