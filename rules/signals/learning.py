"""What the training learns: its own loss, and the validation results that the script logs."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.model.signals import Signal
from trainprof.rules.logged_metrics import (
    LoggedSeries,
    logged_series,
    lowered,
    noise,
    validation_series,
)
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training
from trainprof.rules.statistics.intervals import Floats
from trainprof.rules.statistics.trend import Trend, theil_sen

DESCRIPTIONS = (
    Description("learning.metric", "text", "Logged validation result that is judged."),
    Description("learning.evaluations", "count", "Values of it."),
    Description("learning.best_evaluation", "count", "The first that no later one clearly beats."),
    Description("learning.best_value", "number", "Its value."),
    Description("learning.last_value", "number", "The last one."),
    Description("learning.noise", "number", "Scatter of the values about their course."),
    Description(
        "learning.after_best_time_share", "share", "Part of the training time after the best."
    ),
    Description(
        "learning.after_best_slope",
        "number",
        "Change per evaluation after the best, less is better.",
    ),
    Description(
        "learning.after_best_loss_slope", "number", "Change of the training loss in that time."
    ),
    Description("learning.scheduled", "bool", "A scheduler moves the learning rate."),
    Description("learning.where", "place", "Where the validation result is logged."),
)

NOISE_DEVIATIONS = 1.0
"""An evaluation beats another if it is better by this many standard deviations of the noise."""


def measure(training: Training) -> dict[str, Signal]:
    """Signals learning.*."""
    sheet = Sheet(DESCRIPTIONS)
    sheet.put("learning.scheduled", _scheduled(training), reason="no optimizer was described")
    chosen = validation_series(logged_series(training.events("metrics")).values())
    if chosen is None or not training.count:
        return sheet.finish("the script logs no validation result that could be read")
    sheet.put("learning.metric", chosen.tag)
    sheet.put("learning.evaluations", len(chosen))
    sheet.put("learning.where", chosen.where, reason="a library logs it")
    _best(training, chosen, sheet)
    return sheet.finish("there are too few evaluations after the best")


def _scheduled(training: Training) -> bool | None:
    """Schedulers note the learning rate they began with in the groups of the optimizer."""
    facts = training.trainer.latest_facts("optimizer").values()
    if not facts:
        return None
    groups = [group for fact in facts for group in fact.data.get("groups") or ()]
    return any("initial_lr" in group for group in groups)


def _best(training: Training, chosen: LoggedSeries, sheet: Sheet) -> None:
    values = lowered(chosen)
    spread = noise(values)
    best = first_unbeaten(values, NOISE_DEVIATIONS * spread)
    sheet.put("learning.noise", spread, method="second differences")
    sheet.put("learning.best_evaluation", best + 1)
    sheet.put("learning.best_value", chosen.values[best])
    sheet.put("learning.last_value", chosen.values[-1])
    start_ns, wall_ns = training.columns["start_ns"], training.columns["wall_ns"]
    if len(start_ns):
        since_ns = chosen.at_ns[best]
        total_ns = max(int(start_ns[-1] + wall_ns[-1] - start_ns[0]), 1)
        after_ns = int(start_ns[-1] + wall_ns[-1]) - since_ns
        sheet.put("learning.after_best_time_share", min(max(after_ns / total_ns, 0.0), 1.0))
    later = values[best:]
    _put_slope(sheet, "learning.after_best_slope", _trend(np.arange(len(later)), later))
    _put_slope(sheet, "learning.after_best_loss_slope", _loss_trend(training, chosen.at_ns[best]))


def first_unbeaten(values: Floats, margin: float) -> int:
    """Position of the first value that no later one beats by more than the margin (less wins)."""
    best_later = np.minimum.accumulate(values[::-1])[::-1]
    return int(np.flatnonzero(values <= best_later + margin)[0])


def _loss_trend(training: Training, since_ns: int) -> Trend | None:
    """Of the training loss from a time on, per step."""
    losses = training.losses
    if not len(losses):
        return None
    since = training.position_of(since_ns)
    later = losses[losses["step"] >= since]
    later = later[np.isfinite(later["value"])]
    return _trend(later["step"], later["value"])


def _trend(x: NDArray[Any], y: NDArray[Any]) -> Trend | None:
    return theil_sen(x.astype(np.float64), y.astype(np.float64)) if len(x) >= 4 else None


def _put_slope(sheet: Sheet, name: str, trend: Trend | None) -> None:
    if trend is not None and math.isfinite(trend.slope):
        sheet.put(
            name,
            trend.slope,
            method="Theil-Sen",
            samples=trend.points,
            low=trend.low,
            high=trend.high,
        )
