"""Attention that is written out, by the kernels of a trace; under the names that runs have."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.attention_kernels import attention_kernels
from trainprof.rules.signals import operator_descriptions as of_runs
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS: tuple[Description, ...] = ()
"""None of its own."""
_SHARED = ("operators.attention_share", "operators.attention_count")


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals that `kern-attn` judges."""
    sheet = Sheet(one for one in of_runs.DESCRIPTIONS if one.name in _SHARED)
    kernels, window = traced.kernels, traced.timeline.window
    if kernels is not None:
        found = attention_kernels(kernels)
        share = kernels.time_ns(found.chosen) / max(window.length_ns, 1)
        sheet.put("operators.attention_share", share, method=window.text)
        count = found.forwards / window.steps if window.steps else None
        sheet.put("operators.attention_count", count, reason="the trace marks no steps")
    return sheet.finish("the trace holds no kernels in its window")
