"""What a trace tells of double precision, on a device or in operators of the CPU."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.fp64 import double_kernels, double_operators
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description(
        "fp64.window_share",
        "share",
        "Part of the window in kernels of the busiest device in fp64, or in operators of the CPU.",
    ),
    Description("fp64.busy_share", "share", "The same of the time in which the device was busy."),
    Description(
        "fp64.matrix_window_share",
        "share",
        "Of the window, in those that multiply matrices, convolve or attend.",
    ),
    Description("fp64.operator", "text", "The operator that most of it is of."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals that `prec-fp64` judges in a trace."""
    sheet = Sheet(DESCRIPTIONS)
    kernels, thread, window = traced.kernels, traced.thread, traced.timeline.window
    found = None
    if kernels is not None:
        found = double_kernels(kernels)
    elif thread is not None and traced.on_cpu:
        found = double_operators(traced.trace, thread, window)
    if found is None:
        return sheet.finish(
            "the trace holds neither kernels nor the types of operators (record_shapes=True)"
        )
    whole_ns = max(window.length_ns, 1)
    sheet.put("fp64.window_share", found.time_ns / whole_ns, method=window.text)
    if kernels is not None and found.matrices_ns is not None:
        sheet.put("fp64.busy_share", found.time_ns / max(kernels.busy_ns, 1))
        matrices = found.matrices_ns / whole_ns
        sheet.put("fp64.matrix_window_share", matrices, method=window.text)
    sheet.put("fp64.operator", found.operator, reason="no operator is known to be in it")
    return sheet.finish("there is no device")
