"""Deep copies of models between the steps."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, most_frequent_place
from trainprof.rules.statistics.intervals import block_length, ratio_intervals

MOST_BINS = 200
"""Parts of the window that the interval of the share is drawn from."""
BIN_NS = 1_000_000_000
"""At least a second each: the agent counts by the second."""

DESCRIPTIONS = (
    Description("deepcopy.share", "share", "Part of the step inside copy.deepcopy of models."),
    Description("deepcopy.per_step", "count", "Such copies per step."),
    Description("deepcopy.mean_s", "s", "Mean length of one."),
    Description("deepcopy.what", "text", "Class of what is copied."),
    Description("deepcopy.where", "place", "Where most are called."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals deepcopy.*."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    inside = [(event, part) for event, part in training.overlapping("deepcopy")]
    count = sum(int(event.data.get("count") or 0) * part for event, part in inside)
    total_ns = sum(int(event.data.get("total_ns") or 0) * part for event, part in inside)
    sheet.put("deepcopy.per_step", count / len(training.window), samples=len(training.window))
    _share(training, sheet)
    if count:
        sheet.put("deepcopy.mean_s", total_ns / count / 1e9)
        sheet.put("deepcopy.what", inside[-1][0].data.get("what"))
        place = most_frequent_place([event for event, _ in inside])
        sheet.put("deepcopy.where", place, reason="a library copies")
    return sheet.finish("no model was copied in the window")


def _share(training: Training, sheet: Sheet) -> None:
    """Time in copies over the window's, in bins of a second or more."""
    start, end = training.span_ns
    bins = int(max(1, min((end - start) // BIN_NS, MOST_BINS)))
    edges = np.linspace(start, end, bins + 1)
    spent = np.zeros(bins)
    for event in training.events("deepcopy"):
        begin, length = event.start_ns, max(event.duration_ns, 1)
        inside = np.minimum(edges[1:], begin + length) - np.maximum(edges[:-1], begin)
        spent += np.maximum(inside, 0.0) / length * int(event.data.get("total_ns") or 0)
    lengths = np.diff(edges)
    (share,) = ratio_intervals([spent], lengths, block_length(bins, 1, 1))
    sheet.put_interval("deepcopy.share", share, method="counted by the second")
