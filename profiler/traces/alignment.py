"""Matrix products in low precision whose sizes tensor cores do not like."""

from __future__ import annotations

import re

import numpy as np

from trainprof.profiler.traces.events import Flags
from trainprof.profiler.traces.kernel_names import PRECISIONS
from trainprof.profiler.traces.kernels import Kernels

MULTIPLES = {"fp16": 8, "bf16": 8, "tf32": 4, "fp8": 16, "int8": 16}
"""Sizes that fill 16 bytes, which tensor cores load at once (NVIDIA's user's guide:
https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication)."""
FP8_LEAST = 4096
"""Of the outputs and the inner length of a layer, from which fp8 pays (torchao's float8 README)."""
_ALIGN = re.compile(r"align(\d+)")
Dims = tuple[int, int, int]


def misaligned(kernels: Kernels) -> tuple[Flags, Dims | None]:
    """Which kernels work on sizes that are no such multiples, and the dearest sizes among them.

    Told by the sizes of their operator, else by the alignment that CUTLASS writes into a name. The
    rows of a batch do not count: a batch may have any size, and costs little by it.
    """
    rows = {
        work.dims[0]
        for work in kernels.operators.works.values()
        if work.dims is not None and work.rows_are_samples
    }
    lengths = kernels.events.end_ns - kernels.events.start_ns
    found = np.zeros(len(lengths), bool)
    spent: dict[Dims, int] = {}
    for precision, multiple in MULTIPLES.items():
        own = kernels.of_matrices & (kernels.precision == PRECISIONS.index(precision))
        for place in np.flatnonzero(own).tolist():
            work = kernels.operators.works.get(int(kernels.operators.known[place]))
            dims = work.dims if work is not None else None
            if dims is None or work is None:
                name = _ALIGN.search(kernels.names[kernels.events.name[place]])
                found[place] = name is not None and int(name[1]) < multiple
            elif work.wide and any(one % multiple and one not in rows for one in dims):
                found[place] = True
                spent[dims] = spent.get(dims, 0) + int(lengths[place])
    return found, max(spent, key=lambda dims: spent[dims]) if spent else None


def large_layers(kernels: Kernels) -> Flags:
    """Products of layers in 16 bits that are large enough for fp8, with sizes that it takes."""
    large = [
        place
        for place, work in kernels.operators.works.items()
        if work.dims is not None
        and min(work.dims) >= FP8_LEAST
        and all(one % MULTIPLES["fp8"] == 0 for one in work.dims)
    ]
    return np.isin(kernels.operators.known, large) & kernels.of_precision("fp16", "bf16")
