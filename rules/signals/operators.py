"""The operators of one step, as a window of torch's profiler saw them; shares are parts of it."""

from __future__ import annotations

import statistics

from trainprof.profiler.model.signals import Signal
from trainprof.rules.attention_pattern import find_attention
from trainprof.rules.operator_table import FORWARD, OperatorTable, read_table, why_absent
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("operators.window_s", "s", "The step under the profiler, which lengthens it."),
    Description("operators.count", "count", "Operators that the training thread called in it."),
    Description("operators.median_s", "s", "Median length of such a call in the forward."),
    Description(
        "operators.attention_share",
        "share",
        "Part of the step, backward included, in attention written out as product, softmax, "
        "product.",
    ),
    Description("operators.attention_count", "count", "Such attentions in a step."),
    Description("operators.attention_length", "count", "Keys that a query of the longest sees."),
    Description("operators.attention_masked", "bool", "Their scores are masked."),
    Description("operators.attention_where", "place", "Where their softmax is called."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals operators.*."""
    sheet = Sheet(DESCRIPTIONS)
    table = read_table(training.trainer)
    if table is None:
        return sheet.finish(why_absent(training.trainer))
    method = "one step under torch's profiler"
    sheet.put("operators.window_s", table.wall_ns / 1e9, method=method, samples=table.windows)
    sheet.put("operators.count", len(table.calls), method=method)
    forward = [call.wall_ns for call in table.in_zone(FORWARD)]
    median_s = statistics.median(forward) / 1e9 if forward else None
    sheet.put("operators.median_s", median_s, reason="no operator of a forward was seen")
    _attention(table, sheet)
    return sheet.finish("there is no such pattern in the step")


def _attention(table: OperatorTable, sheet: Sheet) -> None:
    found = list(find_attention(table.in_zone(FORWARD)))
    share = table.share(call for one in found for call in one.calls)
    sheet.put("operators.attention_share", share)
    sheet.put("operators.attention_count", len(found))
    if found:
        sheet.put("operators.attention_length", max(one.length for one in found))
        sheet.put("operators.attention_masked", any(one.masked for one in found))
        place = table.place(("softmax", "_softmax"))
        sheet.put("operators.attention_where", place, reason="the calling lines were not seen")
