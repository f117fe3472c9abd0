"""Copies that only change the order of elements, of a trace; under the names that runs have."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.rearranging import rearranging_copies, rearranging_kernels
from trainprof.rules.signals import operator_descriptions as of_runs
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS: tuple[Description, ...] = ()
"""None of its own."""
_SHARED = ("operators.rearranged_share", "operators.rearranged_in")


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals that `kern-noncontig` judges."""
    sheet = Sheet(one for one in of_runs.DESCRIPTIONS if one.name in _SHARED)
    kernels, thread, window = traced.kernels, traced.thread, traced.timeline.window
    if kernels is not None and (kernels.operators.lane >= 0).any():
        found = rearranging_kernels(traced.trace, kernels)
    elif thread is not None and traced.on_cpu:
        found = rearranging_copies(traced.trace, thread, window)
    else:
        return sheet.finish("the trace tells of no operator what it launched")
    share = found.time_ns / max(window.length_ns, 1)
    sheet.put("operators.rearranged_share", share, method=window.text)
    name = found.operator and found.operator.rpartition("::")[2]
    sheet.put("operators.rearranged_in", name)
    return sheet.finish("nothing is rearranged")
