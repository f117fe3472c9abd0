"""Operators of a training on the CPU, of a trace; a run has these signals of a single step."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.short_operators import short_operators
from trainprof.rules.signals import operator_descriptions as of_runs
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS: tuple[Description, ...] = ()
"""None of its own."""
_SHARED = ("operators.count", "operators.median_s", "operators.short_share")


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals that `kern-small-ops-cpu` judges, where the training runs on the CPU."""
    sheet = Sheet(one for one in of_runs.DESCRIPTIONS if one.name in _SHARED)
    thread, window = traced.thread, traced.timeline.window
    if thread is None or not traced.on_cpu or not window.steps:
        return sheet.finish("the trace marks no steps of a training on the CPU")
    found = short_operators(traced.trace, thread, window)
    short_ns = found.short_ns + found.pauses_ns
    sheet.put("operators.count", found.count / window.steps, method=window.text)
    sheet.put("operators.short_share", short_ns / max(window.length_ns, 1), method=window.text)
    if found.median_ns is not None:
        sheet.put("operators.median_s", found.median_ns / 1e9, method=window.text)
    return sheet.finish("the thread called no operator")
