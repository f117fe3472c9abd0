"""Several devices that one process drives, of a trace."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.several_devices import several_devices
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DATA_PARALLEL = Description(
    "devices.data_parallel", "count", "Devices over which nn.DataParallel spreads a batch."
)
"""Under the name that it has in a run."""
DESCRIPTIONS = (
    Description("several_devices.count", "count", "Devices of one process that compute."),
    Description(
        "several_devices.concurrency", "ratio", "How many compute at a time, while any does."
    ),
    Description(
        "several_devices.computing_share", "share", "Part of the window in which any does."
    ),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of one trace."""
    sheet = Sheet((*DESCRIPTIONS, DATA_PARALLEL))
    found = several_devices(traced.trace, traced.timeline)
    if found is None:
        return sheet.finish("fewer than two devices compute in the trace")
    whole_ns = max(traced.timeline.window.length_ns, 1)
    sheet.put("several_devices.count", found.count)
    sheet.put("several_devices.concurrency", found.concurrency)
    sheet.put("several_devices.computing_share", found.any_ns / whole_ns)
    sheet.put("devices.data_parallel", found.count if found.data_parallel else 0)
    return sheet.finish("the trace does not tell it")
