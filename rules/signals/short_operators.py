"""Signals of short operators that runs and traces share, light to import."""

from __future__ import annotations

from trainprof.rules.signals.sheet import Description

COUNT = Description("operators.count", "count", "Operators that the training thread called in it.")
MEDIAN = Description("operators.median_s", "s", "Median length of such a call in the forward.")
SHORT = Description(
    "operators.short_share",
    "share",
    "Part of the step in operators of less than 20 us, inner ones too, and in the pauses "
    "between operators, of forward and backward.",
)
