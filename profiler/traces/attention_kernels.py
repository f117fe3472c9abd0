"""Attention that is written out, by the kernels of a device: product, softmax, product.

What lies between (scale, mask, dropout) belongs to it. Both products have to be called as products
of batches of matrices: those of learnt layers around a softmax are gates, routers, classifiers.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Flags, distinct
from trainprof.profiler.traces.kernel_names import MATRIX_FAMILIES
from trainprof.profiler.traces.kernels import Kernels

MOST_BETWEEN = 5
"""Kernels between a product and the softmax: scale, mask, dropout, a change of type."""
BATCHED = frozenset({"aten::bmm", "aten::baddbmm", "aten::matmul", "aten::einsum"})
"""Operators that multiply batches of matrices, as the training or its backward calls them."""
_SOFTMAX = re.compile(r"softmax", re.IGNORECASE)
_LOGARITHM = re.compile(r"logsoftmax|softmax_warp_(for|back)ward<[^>]*\d, true", re.IGNORECASE)
"""Torch's template says whether its softmax is one of logarithms, as of a loss."""
_BACKWARD = re.compile(r"backward", re.IGNORECASE)


class AttentionKernels(msgspec.Struct, frozen=True):
    """Written-out attention in the window.

    Attributes:
        chosen: The kernels that belong to it. forwards: How many of them are a forward's softmax.
    """

    chosen: Flags
    forwards: int


def attention_kernels(kernels: Kernels) -> AttentionKernels:
    """Finds products of batches on both sides of a softmax, on each stream."""
    chosen = np.zeros(len(kernels.events), bool)
    softmax = [
        bool(_SOFTMAX.search(name)) and not _LOGARITHM.search(name) for name in _used(kernels)
    ]
    is_softmax = np.array(softmax, bool)[np.unique(kernels.events.name, return_inverse=True)[1]]
    matrices = kernels.of_family(*MATRIX_FAMILIES)
    names = [place for place, name in enumerate(kernels.names) if name in BATCHED]
    batched = matrices & np.isin(kernels.operator_names, names)
    forwards = 0
    for stream in np.unique(kernels.events.stream[is_softmax]).tolist():
        order = np.flatnonzero(kernels.events.stream == stream)
        for place in np.flatnonzero(is_softmax[order]).tolist():
            first = _next(order, place, -1, matrices)
            last = _next(order, place, 1, matrices)
            if first is None or last is None:
                continue
            if not (batched[order[first]] and batched[order[last]]):
                continue
            backward = _BACKWARD.search(kernels.names[kernels.events.name[order[place]]])
            if backward:  # of each product two gradients
                first -= int(first > 0 and batched[order[first - 1]])
                last += int(last + 1 < len(order) and batched[order[last + 1]])
            else:
                forwards += 1
            chosen[order[first : last + 1]] = True
    return AttentionKernels(chosen, forwards)


def _used(kernels: Kernels) -> list[str]:
    return [kernels.names[place] for place in distinct(kernels.events.name).tolist()]


def _next(order: np.ndarray, place: int, way: int, matrices: Flags) -> int | None:
    """The nearest matrix kernel before or after; None where it is too far off."""
    for step in range(1, MOST_BETWEEN + 2):
        found = place + way * step
        if not 0 <= found < len(order):
            return None
        if matrices[order[found]]:
            return found
    return None
