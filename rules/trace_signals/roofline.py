"""What shapes tell of the busiest device: FLOPs, the side of the roofline, use of its peak."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.kernels import Kernels
from trainprof.profiler.traces.roofline import Roofline, roofline
from trainprof.rules.reading import percent
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

LEAST_COVERED = 0.9
"""Of the time of matrix kernels: with shapes for less, FLOPs are not summed (a starting value)."""
DESCRIPTIONS = (
    Description(
        "roofline.covered_share", "share", "Of the time of matrix kernels, with known shapes."
    ),
    Description("roofline.flops", "FLOP", "Of the operators with known shapes, in the window."),
    Description(
        "roofline.mfu", "share", "Their FLOPs over the window times the peak of the device."
    ),
    Description("roofline.mfu_formula", "text", "The same with its numbers."),
    Description("roofline.precision", "text", "The fastest precision in use, whose peak it is."),
    Description(
        "roofline.memory_share",
        "share",
        "Of its busy time, in kernels bound by memory: by their family, or below the ridge.",
    ),
    Description("roofline.compute_share", "share", "Of its busy time, in kernels above the ridge."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of the busiest device."""
    sheet = Sheet(DESCRIPTIONS)
    kernels = traced.kernels
    if kernels is not None:
        _put(sheet, kernels, roofline(kernels))
    return sheet.finish("the trace holds no kernels in its window")


def _put(sheet: Sheet, kernels: Kernels, found: Roofline) -> None:
    sheet.put("roofline.covered_share", found.covered)
    sheet.put("roofline.precision", found.precision, reason="the device is not on the sheet")
    sheet.put("roofline.memory_share", found.memory_side)
    if found.covered < LEAST_COVERED:
        why = f"shapes are known for {percent(found.covered)} of the time of matrix kernels only"
        for name in ("flops", "mfu", "mfu_formula", "compute_share"):
            sheet.miss(f"roofline.{name}", why)
        return
    sheet.put("roofline.flops", found.flops)
    model = kernels.model.sheet
    if found.mfu is None or model is None or found.peak_flops is None:
        why = "the peak rates of this device are not on the sheet"
        for name in ("mfu", "mfu_formula", "compute_share"):
            sheet.miss(f"roofline.{name}", why)
        return
    sheet.put("roofline.compute_share", found.compute_side)
    window = kernels.window
    formula = (
        f"{found.flops / 1e12:.4g} TFLOP / ({window.length_ns / 1e9:.4g} s * "
        f"{found.peak_flops / 1e12:.4g} TFLOP/s, dense {found.precision} of {model.name}) = "
        f"{percent(found.mfu)} of {window.text}"
    )
    sheet.put("roofline.mfu", found.mfu, method=formula)
    sheet.put("roofline.mfu_formula", formula)
