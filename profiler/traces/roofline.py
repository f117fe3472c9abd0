"""Which side of the roofline the kernels of a device lie on, and how much of its peak they reach.

An operator whose FLOPs per byte lie above the ridge (peak FLOP/s over bandwidth) is bound by
computing, below it by memory (Williams et al. 2009, https://doi.org/10.1145/1498765.1498785).
Kernels that compute a few operations on each element lie below the ridge of every device.
"""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Flags
from trainprof.profiler.traces.kernel_names import PRECISIONS
from trainprof.profiler.traces.kernels import Kernels
from trainprof.profiler.traces.operator_shapes import BYTES

OF_MEMORY = (
    "pointwise",
    "normalisation",
    "copy",
    "reduction",
    "softmax and loss",
    "pooling",
    "optimizer",
    "index and sort",
)
"""Families with a few operations on each element."""
LEAST_PART = 0.01
"""Of the time of matrix kernels, for a precision to count as used."""


class Roofline(msgspec.Struct, frozen=True):
    """What the shapes of a trace tell of its busiest device.

    Attributes:
        flops: Of the operators whose kernels lie in the window, as far as shapes tell them.
        covered: Part of the time of matrix kernels whose operator's work is known.
        precision: The fastest that takes part; None where the device is not on the sheet.
        peak_flops: Dense FLOP/s in it. mfu: flops / (window * peak_flops); None if not known.
        memory_side: Share of busy time in kernels below the ridge. compute_side: Above it. The rest
            is not known.
    """

    flops: float
    covered: float
    precision: str | None
    peak_flops: float | None
    mfu: float | None
    memory_side: float
    compute_side: float


def roofline(kernels: Kernels) -> Roofline:
    """Reckons it from the works that operators are known to do."""
    matrices = kernels.of_matrices
    known = kernels.operators.known != MISSING
    lengths = (kernels.events.end_ns - kernels.events.start_ns).astype(np.float64)
    whole = float(lengths[matrices].sum())
    # in the order of their places, so that the sum is the same each time
    works = [kernels.operators.works[place] for place in sorted(kernels.operators.works)]
    flops = sum(work.flops for work in works)
    precision, peak = _fastest(kernels, matrices, lengths, whole)
    window_s = kernels.window.length_ns / 1e9
    below, above = _sides(kernels, matrices & known)
    return Roofline(
        flops=flops,
        covered=float(lengths[matrices & known].sum()) / whole if whole else 0.0,
        precision=precision,
        peak_flops=peak,
        mfu=flops / (window_s * peak) if peak and window_s and works else None,
        memory_side=kernels.share(below | kernels.of_family(*OF_MEMORY)),
        compute_side=kernels.share(above),
    )


def _fastest(
    kernels: Kernels, matrices: Flags, lengths: np.ndarray, whole: float
) -> tuple[str | None, float | None]:
    sheet = kernels.model.sheet
    if sheet is None or not whole:
        return None, None
    parts = np.bincount(kernels.precision[matrices], lengths[matrices], len(PRECISIONS)) / whole
    used = [name for name, part in zip(PRECISIONS, parts, strict=True) if part >= LEAST_PART]
    rates = {name: sheet.tflops[name] for name in used if name in sheet.tflops}
    if not rates:
        return None, None
    fastest = max(rates, key=lambda name: rates[name])
    return fastest, rates[fastest] * 1e12


def _sides(kernels: Kernels, chosen: Flags) -> tuple[Flags, Flags]:
    """Which kernels of known work lie below the ridge, and which above."""
    below, above = np.zeros(len(chosen), bool), np.zeros(len(chosen), bool)
    sheet = kernels.model.sheet
    if sheet is None:
        return below, above
    for place in np.flatnonzero(chosen).tolist():
        name = PRECISIONS[kernels.precision[place]]
        ridge, width = sheet.ridge(name), BYTES.get(name)
        work = kernels.operators.works[int(kernels.operators.known[place])]
        if ridge is None or width is None or not work.elements:
            continue
        side = above if work.flops / (work.elements * width) >= ridge else below
        side[place] = True
    return below, above
