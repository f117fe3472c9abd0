"""What the optimizer's steps cost in a trace; under the names of runs what rules read of both."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.optimizer_steps import OptimizerSteps, optimizer_steps
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description(
        "optimizer_steps.host_share", "share", "Of the window, the host was in the optimizer."
    ),
    Description(
        "optimizer_steps.kernel_share", "share", "Of the window, kernels that it launched ran."
    ),
    Description(
        "optimizer_steps.idle_share",
        "share",
        "Of the window, the device did nothing while the host was in the optimizer.",
    ),
)
SHARED = (
    Description("step.optimizer_share", "share", "Of the window: its kernels and idle time."),
    Description("optimizer.type", "text", "Class of the optimizer that took longest."),
    Description("optimizer.implementation", "text", "What it ran: forloop, foreach, fused."),
    Description("optimizer.fused_supported", "bool", "Torch has a fused form of it."),
    Description("optimizer.momentum", "number", "0 where nothing is multiplied in its steps."),
)
FUSED_ON_DEVICES = ("Adam", "AdamW", "SGD")
"""Of torch.optim 2.13; on the CPU Adagrad as well."""


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of one trace."""
    sheet = Sheet((*DESCRIPTIONS, *SHARED))
    found = optimizer_steps(traced.trace, traced.timeline, traced.kernels)
    if found is not None:
        _put(sheet, found, traced)
    return sheet.finish("the trace marks no step of an optimizer of torch.optim")


def _put(sheet: Sheet, found: OptimizerSteps, traced: Traced) -> None:
    window = traced.timeline.window
    whole_ns = max(window.length_ns, 1)
    on_device = bool(traced.timeline.devices)
    cost_ns = found.kernels_ns + found.idle_ns if on_device else found.host_ns
    sheet.put("step.optimizer_share", min(cost_ns / whole_ns, 1.0), method=window.text)
    sheet.put("optimizer_steps.host_share", found.host_ns / whole_ns, method=window.text)
    if on_device:
        sheet.put("optimizer_steps.kernel_share", found.kernels_ns / whole_ns, method=window.text)
        sheet.put("optimizer_steps.idle_share", found.idle_ns / whole_ns, method=window.text)
    sheet.put("optimizer.type", found.kind)
    sheet.put("optimizer.implementation", found.form)
    fused = FUSED_ON_DEVICES if on_device else (*FUSED_ON_DEVICES, "Adagrad")
    sheet.put("optimizer.fused_supported", found.kind in fused)
    momentum = None if found.scales else 0.0
    sheet.put("optimizer.momentum", momentum, reason="the trace does not tell how much")
