"""What a trace tells of devices and of the host: shares of a window that is named beside them."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.events import Kind, Trace
from trainprof.profiler.traces.timeline import CAUSES, DeviceTimeline, Timeline
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

IDLE = {cause: f"timeline.idle_{cause.lower().replace(' ', '_')}_share" for cause in CAUSES}
"""Signal of each cause of idle time."""
STEP = Description("step.mean_s", "s", "Mean wall time of a whole step of the trace.")
"""Under the name that it has in a run."""
DESCRIPTIONS = (
    Description("timeline.window", "text", "What all shares of a trace refer to."),
    Description("timeline.window_s", "s", "Its length."),
    Description("timeline.steps", "count", "Whole steps that the trace marks."),
    Description("timeline.devices", "count", "Devices that did something."),
    Description("timeline.device", "text", "The busiest device, of which the shares are."),
    Description("timeline.busy_share", "share", "It ran a kernel, a copy or a fill."),
    Description("timeline.compute_share", "share", "It ran a kernel that is no communication."),
    Description("timeline.communication_share", "share", "It ran a kernel of a collective."),
    Description(
        "timeline.exposed_communication_share", "share", "Of these, while nothing was computed."
    ),
    Description("timeline.exposed_copy_share", "share", "It copied or filled, and ran no kernel."),
    Description("timeline.idle_share", "share", "It did nothing."),
    *(
        Description(IDLE[cause], "share", f"It did nothing, and the host was busy with: {cause}.")
        for cause in CAUSES
    ),
    Description("timeline.longest_gap_s", "s", "Longest time in which it did nothing."),
    Description("timeline.data_wait_share", "share", "The host waited for a batch."),
    Description("timeline.kernels_per_step", "count", "Kernels of the busiest device a step."),
    Description("timeline.kernel_median_s", "s", "Median length of its kernels."),
    Description("timeline.loader", "text", "Which iterator of torch's loader the host waited in."),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """The signals of one trace."""
    trace, timeline = traced.trace, traced.timeline
    sheet = Sheet((*DESCRIPTIONS, STEP))
    window = timeline.window
    whole_ns = max(window.length_ns, 1)
    sheet.put("timeline.window", window.text)
    sheet.put("timeline.window_s", window.length_ns / 1e9)
    step_s = window.length_ns / window.steps / 1e9 if window.steps else None
    sheet.put("step.mean_s", step_s, reason="the trace marks no steps", method=window.text)
    sheet.put("timeline.steps", window.steps or None, reason="the trace marks no steps")
    sheet.put("timeline.devices", len(timeline.devices))
    sheet.put("timeline.data_wait_share", timeline.data_wait_ns / whole_ns, method=window.text)
    sheet.put("timeline.loader", _loader(trace), reason="no loader of torch was waited for")
    if timeline.devices:
        _device(sheet, trace, timeline.devices[0], timeline)
    return sheet.finish("the trace holds no work of a device")


def _device(sheet: Sheet, trace: Trace, device: DeviceTimeline, timeline: Timeline) -> None:
    window = timeline.window
    shares = {
        "timeline.busy_share": device.busy_ns,
        "timeline.compute_share": device.compute_ns,
        "timeline.communication_share": device.communication_ns,
        "timeline.exposed_communication_share": device.exposed_ns,
        "timeline.exposed_copy_share": device.copies_ns,
        "timeline.idle_share": device.idle_ns,
        **{IDLE[cause]: length_ns for cause, length_ns in device.causes.items()},
    }
    for name, length_ns in shares.items():
        sheet.put(name, length_ns / max(window.length_ns, 1), method=window.text)
    sheet.put("timeline.device", str(device.device))
    gaps_ns = device.gaps.end - device.gaps.start
    sheet.put("timeline.longest_gap_s", float(gaps_ns.max()) / 1e9 if len(gaps_ns) else 0.0)
    kernels = trace.of_kind(Kind.KERNEL)
    inside = kernels.where(
        (kernels.device == device.device)
        & (kernels.start_ns >= window.start_ns)
        & (kernels.start_ns < window.end_ns)
    )
    if len(inside):
        sheet.put(
            "timeline.kernel_median_s", float(np.median(inside.end_ns - inside.start_ns)) / 1e9
        )
    if window.steps:
        sheet.put("timeline.kernels_per_step", len(inside) / window.steps)


def _loader(trace: Trace) -> str | None:
    names = [name for name in trace.names if "DataLoaderIter" in name]
    return names[0].partition("#")[2].partition(".")[0] or names[0] if names else None
