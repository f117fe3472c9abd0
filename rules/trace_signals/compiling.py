"""Code that was compiled or loaded in the traced steps."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.compiling import compiling
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description(
        "compiling.cost_share",
        "share",
        "The device was idle while code was compiled or loaded; without a device, the host did it.",
    ),
    Description("compiling.host_share", "share", "The host compiled or loaded code."),
    Description("compiling.frames", "count", "Functions that dynamo compiled."),
    Description("compiling.recompiled", "count", "Of them, those compiled before."),
    Description("compiling.loads", "count", "Calls that load code into the driver."),
    Description("compiling.longest", "text", "What took longest."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """Signals compiling.*."""
    sheet = Sheet(DESCRIPTIONS)
    timeline = traced.timeline
    window, devices = timeline.window, timeline.devices
    found = compiling(traced.trace, window)
    cost_ns = devices[0].causes["compilation"] if devices else found.host_ns
    for name, length_ns in (("cost_share", cost_ns), ("host_share", found.host_ns)):
        share = length_ns / max(window.length_ns, 1)
        sheet.put(f"compiling.{name}", share, method=window.text)
    sheet.put("compiling.frames", found.frames)
    sheet.put("compiling.loads", found.loads)
    sheet.put("compiling.recompiled", found.recompiled, reason="torch does not number them here")
    sheet.put("compiling.longest", found.longest, reason="nothing was compiled or loaded")
    return sheet.finish("nothing was compiled or loaded")
