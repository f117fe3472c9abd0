"""What of the models is trained, and what only takes part."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training
from trainprof.rules.statistics.intervals import Interval, ratio_intervals

LEAST_UPDATES_COMPARED = 20
"""Values that stayed the same over fewer updates prove nothing."""
LEAST_BACKWARDS = 3

DESCRIPTIONS = (
    Description(
        "untrained.parameter_share",
        "share",
        "Part of the elements that require gradients which no optimizer moves.",
    ),
    Description("untrained.parameter_count", "count", "Those elements."),
    Description("untrained.modules", "text", "The outermost modules that consist of them."),
    Description("untrained.changed", "bool", "Their values have changed all the same."),
    Description(
        "untrained.backward_share",
        "share",
        "Part of the backward after the last gradient that an optimizer uses.",
    ),
    Description("untrained.step_share", "share", "That part as a part of the step."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals untrained.*."""
    sheet = Sheet(DESCRIPTIONS)
    lost = training.failures.get("untrained parameters")
    fact = training.trainer.latest_facts("untrained").get("all")
    if lost is not None:
        for description in DESCRIPTIONS:
            sheet.miss(description.name, lost, lost=True)
        return sheet.finish(lost)
    if fact is None:
        if not training.trainer.latest_facts("optimizer"):
            return sheet.finish("no optimizer was seen")
        sheet.put("untrained.parameter_share", 0.0)
        return sheet.finish("an optimizer moves every parameter that requires a gradient")
    data = fact.data
    total = int(data.get("trainable") or 0)
    count = int(data.get("parameters") or 0)
    sheet.put("untrained.parameter_count", count)
    sheet.put("untrained.parameter_share", count / total if total else None)
    sheet.put("untrained.modules", ", ".join(map(str, data.get("modules") or ())) or None)
    changed = data.get("changed")
    if changed is False and int(data.get("updates_compared") or 0) < LEAST_UPDATES_COMPARED:
        changed = None
    sheet.put("untrained.changed", changed, reason="their values were not compared for long enough")
    pairs = [pair for pair in data.get("backward_samples") or () if len(pair) == 2 and pair[0] > 0]
    if len(pairs) < LEAST_BACKWARDS:
        clock = "on an accelerator the host's clock does not tell how long a backward takes"
        return sheet.finish("too few backwards were sampled" if data.get("on_cpu") else clock)
    series = np.array(pairs, dtype=np.float64)
    part = ratio_intervals([series[:, 1]], series[:, 0], 1)[0]
    sheet.put_interval("untrained.backward_share", part, samples=len(pairs))
    backward = training.phase_shares.get("backward") if training.has_window else None
    if backward is not None:
        method = "part of the sampled backwards times the backward's share of the step"
        sheet.put_interval("untrained.step_share", _product(part, backward), method=method)
    return sheet.finish("no step was completed")


def _product(one: Interval, other: Interval) -> Interval:
    """Of two shares; the bounds are those of the worst and the best case."""
    low = None if one.low is None or other.low is None else one.low * other.low
    high = None if one.high is None or other.high is None else min(one.high * other.high, 1.0)
    return Interval(one.mean * other.mean, low, high)
