"""How work reaches the busiest device: delays of launches, its queue, and the gaps between work."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.launches import LaunchQueue
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

GAPS = ("under_10us", "10_to_100us", "100us_to_1ms", "over_1ms")
"""Classes of gaps in the names of signals."""
DESCRIPTIONS = (
    Description(
        "launches.matched_share", "share", "Part of the device's work whose launch is in the trace."
    ),
    Description(
        "launches.delay_median_s", "s", "Median time from a launch's call to the start of its work."
    ),
    Description("launches.delay_p90_s", "s", "Of nine in ten at most."),
    Description(
        "launches.queue_median", "count", "Work launched and not finished, at the median launch."
    ),
    Description(
        "launches.queue_empty_share", "share", "Part of the window in which nothing was queued."
    ),
    Description(
        "launches.found_empty_share", "share", "Part of the launches that found nothing queued."
    ),
    Description(
        "launches.idle_empty_share", "share", "The device did nothing, and nothing was queued."
    ),
    Description(
        "launches.idle_queued_share", "share", "The device did nothing, although work was queued."
    ),
    Description("launches.gaps", "count", "Times in which the device did nothing."),
    Description("launches.gap_median_s", "s", "Median of their lengths."),
    Description("launches.gap_p90_s", "s", "Length of nine in ten at most."),
    Description(
        "launches.late_gaps", "count", "Of these, before work that had not been launched by then."
    ),
    *(
        Description(f"launches.gaps_{one}", "count", f"Gaps of {one.replace('_', ' ')}.")
        for one in GAPS
    ),
    *(
        Description(
            f"launches.gaps_{one}_share", "share", f"Part of the window in {one.replace('_', ' ')}."
        )
        for one in GAPS
    ),
)


def measure(traced: Traced) -> dict[str, Signal]:
    """Signals launches.*."""
    sheet = Sheet(DESCRIPTIONS)
    queue, window = traced.queue, traced.timeline.window
    if queue is None:
        return sheet.finish("the trace holds no work of a device")
    whole_ns = max(window.length_ns, 1)
    _gaps(sheet, queue, whole_ns, window.text)
    if queue.work:
        sheet.put("launches.matched_share", queue.matched / queue.work)
    if queue.matched:
        sheet.put("launches.delay_median_s", float(np.median(queue.delays_ns)) / 1e9)
        sheet.put("launches.delay_p90_s", float(np.quantile(queue.delays_ns, 0.9)) / 1e9)
        sheet.put("launches.queue_median", float(np.median(queue.lengths)))
        sheet.put("launches.found_empty_share", float((queue.lengths == 0).mean()))
        for name, length_ns in (
            ("launches.queue_empty_share", queue.empty_ns),
            ("launches.idle_empty_share", queue.idle_empty_ns),
            ("launches.idle_queued_share", queue.idle_queued_ns),
        ):
            sheet.put(name, length_ns / whole_ns, method=window.text)
        sheet.put("launches.late_gaps", int(queue.late_gaps.sum()))
    return sheet.finish("the trace does not say which call launched what")


def _gaps(sheet: Sheet, queue: LaunchQueue, whole_ns: int, window: str) -> None:
    lengths = queue.gaps.end - queue.gaps.start
    sheet.put("launches.gaps", len(lengths))
    if len(lengths):
        sheet.put("launches.gap_median_s", float(np.median(lengths)) / 1e9)
        sheet.put("launches.gap_p90_s", float(np.quantile(lengths, 0.9)) / 1e9)
    for name, (count, total_ns) in zip(GAPS, queue.classes(), strict=True):
        sheet.put(f"launches.gaps_{name}", count)
        sheet.put(f"launches.gaps_{name}_share", total_ns / whole_ns, method=window)
