"""What of the models is trained, and what only takes part."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.models import all_on_cpu
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training
from trainprof.rules.statistics.intervals import Interval, ratio_intervals

LEAST_UPDATES_COMPARED = 20
"""Values that stayed the same over fewer updates prove nothing."""
LEAST_BACKWARDS = 3

LONGEST_WINDOW = 3.0
"""Times the median: a longer sampled step held a validation or the start of an epoch."""

UNTRAINED = (
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

FROZEN = (
    Description("frozen.parameter_count", "count", "Elements of modules without any gradient."),
    Description("frozen.modules", "text", "The outermost of these modules."),
    Description("frozen.changed", "bool", "Their values have changed all the same."),
    Description(
        "frozen.random_layers", "text", "Dropout, BatchNorm ... among them, in training mode."
    ),
    Description(
        "frozen.step_share", "share", "Part of the step in those that no trained layer precedes."
    ),
    Description("frozen.feature_bytes", "bytes", "What they give for one sample."),
    Description("frozen.rows_expected", "count", "Input rows to be met again if none is random."),
    Description("frozen.rows_known_share", "share", "Part of these that was met again."),
)

GRADIENTS = (
    Description("gradients.kept", "bool", "They are zeroed in place instead of dropped."),
    Description("gradients.zeroing_share", "share", "Part of the step inside zero_grad() then."),
)

DESCRIPTIONS = (*UNTRAINED, *FROZEN, *GRADIENTS)


def measure(training: Training) -> dict[str, Signal]:
    """Signals untrained.*, frozen.* and gradients.*."""
    untrained = Sheet(UNTRAINED)
    reason = _untrained(training, untrained)
    frozen = Sheet(FROZEN)
    gradients = Sheet(GRADIENTS)
    return (
        untrained.finish(reason)
        | frozen.finish(_frozen(training, frozen))
        | gradients.finish(_gradients(training, gradients))
    )


def _lost(training: Training, sheet: Sheet, descriptions: tuple[Description, ...]) -> str | None:
    """Whether the collector behind the signals has failed, and how."""
    collectors = ("untrained parameters", "gradient reach", "frozen features", "backward watch")
    lost = next((training.failures[name] for name in collectors if name in training.failures), None)
    for description in descriptions if lost is not None else ():
        sheet.miss(description.name, lost or "", lost=True)
    return lost


def _untrained(training: Training, sheet: Sheet) -> str:
    """Puts untrained.*; returns why the rest is missing."""
    lost = _lost(training, sheet, UNTRAINED)
    if lost is not None:
        return lost
    fact = training.trainer.latest_facts("untrained").get("all")
    if fact is None:
        if not training.trainer.latest_facts("optimizer"):
            return "no optimizer was seen"
        sheet.put("untrained.parameter_share", 0.0)
        return "an optimizer moves every parameter that requires a gradient"
    data = fact.data
    total = int(data.get("trainable") or 0)
    count = int(data.get("parameters") or 0)
    sheet.put("untrained.parameter_count", count)
    sheet.put("untrained.parameter_share", count / total if total else 0.0)
    if not count:
        return "an optimizer moves every parameter that requires a gradient"
    sheet.put("untrained.modules", ", ".join(map(str, data.get("modules") or ())) or None)
    sheet.put("untrained.changed", _changed(data), reason=NOT_COMPARED)
    part = _sampled(data.get("backward_samples"))
    if part is None:
        clock = "on an accelerator the host's clock does not tell how long a backward takes"
        return "too few backwards were sampled" if data.get("on_cpu") else clock
    sheet.put_interval("untrained.backward_share", part)
    backward = training.phase_shares.get("backward") if training.has_window else None
    if backward is not None:
        method = "part of the sampled backwards times the backward's share of the step"
        sheet.put_interval("untrained.step_share", _product(part, backward), method=method)
    return "no step was completed"


def _frozen(training: Training, sheet: Sheet) -> str:
    """Puts frozen.*; returns why the rest is missing."""
    lost = _lost(training, sheet, FROZEN)
    if lost is not None:
        return lost
    fact = training.trainer.latest_facts("frozen").get("all")
    if fact is None:
        sheet.put("frozen.parameter_count", 0 if training.trainer.latest_facts("model") else None)
        return "no module is frozen"
    data = fact.data
    sheet.put("frozen.parameter_count", data.get("parameters"))
    if not data.get("parameters"):
        return "no module is frozen"
    sheet.put("frozen.modules", ", ".join(map(str, data.get("modules") or ())) or None)
    sheet.put("frozen.changed", _changed(data), reason=NOT_COMPARED)
    layers = ", ".join(map(str, data.get("random_layers") or ())) or None
    sheet.put("frozen.random_layers", layers, reason="there is none")
    sheet.put("frozen.feature_bytes", data.get("feature_bytes"), reason="they give no tensor")
    length = training.loader.fact.get("dataset_length")
    if length:
        expected = int(data.get("row_pairs") or 0) / int(length)
        sheet.put(
            "frozen.rows_expected", expected, method="pairs compared over the data set's rows"
        )
        known = int(data.get("rows_known") or 0)
        sheet.put("frozen.rows_known_share", min(known / expected, 1.0) if expected else None)
    part = _sampled(data.get("samples")) if all_on_cpu(training) else None
    if part is not None:
        sheet.put_interval("frozen.step_share", part, method="part of the sampled steps")
    return "too few steps were sampled, or none on a CPU"


def _gradients(training: Training, sheet: Sheet) -> str:
    """Puts gradients.*; returns why the rest is missing."""
    fact = training.trainer.latest_facts("gradients").get("all")
    if fact is None:
        return "gradients are dropped from step to step, or could not be looked at"
    sheet.put("gradients.kept", bool(fact.data.get("kept")))
    part = _sampled(fact.data.get("samples"))
    if part is not None:
        sheet.put_interval("gradients.zeroing_share", part, method="part of the sampled steps")
    return "too few steps were sampled"


NOT_COMPARED = "their values were not compared for long enough"


def _changed(data: Mapping[str, Any]) -> bool | None:
    """Whether values changed; None where that they did not proves nothing yet."""
    changed = data.get("changed")
    compared = int(data.get("updates_compared") or 0)
    proven = isinstance(changed, bool) and (changed or compared >= LEAST_UPDATES_COMPARED)
    return bool(changed) if proven else None


def _sampled(pairs: Sequence[Sequence[int]] | None) -> Interval | None:
    """Second over first of pairs, summed, without those that are far too long."""
    rows = [pair for pair in pairs or () if len(pair) == 2 and pair[0] > 0]
    if len(rows) < LEAST_BACKWARDS:
        return None
    series = np.array(rows, dtype=np.float64)
    series = series[series[:, 0] <= LONGEST_WINDOW * np.median(series[:, 0])]
    return ratio_intervals([series[:, 1]], series[:, 0], 1)[0]


def _product(one: Interval, other: Interval) -> Interval:
    """Of two shares; the bounds are those of the worst and the best case."""
    low = None if one.low is None or other.low is None else one.low * other.low
    high = None if one.high is None or other.high is None else min(one.high * other.high, 1.0)
    return Interval(one.mean * other.mean, low, high)
