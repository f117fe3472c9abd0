"""What zero_grad() cost in a trace."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.zero_grads import zero_grads
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description("zero_grads.type", "text", "Class of the optimizer whose zero_grad() it is."),
    Description("zero_grads.host_share", "share", "Of the window, the host was in zero_grad()."),
    Description("zero_grads.idle_share", "share", "Of that, the device did nothing."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """Signals zero_grads.*."""
    sheet = Sheet(DESCRIPTIONS)
    window = traced.timeline.window
    found = zero_grads(traced.trace, traced.timeline)
    if found is None:
        return sheet.finish("the trace marks no zero_grad() of torch.optim")
    whole_ns = max(window.length_ns, 1)
    sheet.put("zero_grads.type", found.kind)
    sheet.put("zero_grads.host_share", found.host_ns / whole_ns, method=window.text)
    if found.idle_ns is not None:
        sheet.put("zero_grads.idle_share", found.idle_ns / whole_ns, method=window.text)
    return sheet.finish("the trace holds no work of a device")
