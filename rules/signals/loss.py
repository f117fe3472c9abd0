"""The loss: whether it was seen, and whether it stayed a number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.model.signals import Signal
from trainprof.rules.logged_metrics import MEDIAN_OF_NORMAL
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("loss.count", "count", "Loss values that were read."),
    Description("loss.finite", "bool", "All of them are numbers: no NaN, no infinity."),
    Description("loss.nonfinite_count", "count", "Those that are not."),
    Description("loss.first_nonfinite_step", "count", "Step of the first that is not."),
    Description("loss.begin_median", "number", "Median of the first twentieth of the losses."),
    Description("loss.end_median", "number", "Median of the last fifth."),
    Description("loss.scatter", "number", "Scatter of single losses within these parts."),
    Description("loss.dead_count", "count", "Losses since the last that was a number."),
    Description("loss.dead_since_step", "count", "Step of the first of these."),
    Description("loss.dead_time_share", "share", "Part of all steps' time from there to the end."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals loss.*."""
    sheet = Sheet(DESCRIPTIONS)
    losses = training.losses
    sheet.put("loss.count", len(losses))
    if not len(losses):
        return sheet.finish("no loss was read")
    wrong: NDArray[np.bool_] = ~np.isfinite(losses["value"])
    sheet.put("loss.finite", not bool(wrong.any()), samples=len(losses))
    sheet.put("loss.nonfinite_count", int(wrong.sum()), samples=len(losses))
    first = int(losses["step"][wrong][0]) if wrong.any() else None
    sheet.put("loss.first_nonfinite_step", first, reason="every loss is finite")
    _end(training, wrong, sheet)
    if not wrong.any():
        _course(losses["value"], sheet)
    for name in ("loss.begin_median", "loss.end_median", "loss.scatter"):
        if wrong.any():
            sheet.miss(name, "a loss is no number")
    return sheet.finish("the last loss is finite")


def _course(values: NDArray[np.float64], sheet: Sheet) -> None:
    """Where the loss begins and ends, against the scatter of single values."""
    begin, end = values[: max(len(values) // 20, 1)], values[-max(len(values) // 5, 1) :]
    middles = float(np.median(begin)), float(np.median(end))
    sheet.put("loss.begin_median", middles[0], samples=len(begin))
    sheet.put("loss.end_median", middles[1], samples=len(end))
    deviations = [np.median(np.abs(part - np.median(part))) for part in (begin, end)]
    scatter = float(max(deviations)) / MEDIAN_OF_NORMAL
    sheet.put("loss.scatter", scatter, method="median absolute deviation")


def _end(training: Training, wrong: NDArray[np.bool_], sheet: Sheet) -> None:
    """The losses after the last that was a number: a model that is lost gives no other any more."""
    numbers = np.flatnonzero(~wrong)
    begin = int(numbers[-1]) + 1 if len(numbers) else 0
    sheet.put("loss.dead_count", len(wrong) - begin)
    if begin == len(wrong):
        return
    since = int(training.losses["step"][begin])
    sheet.put("loss.dead_since_step", since)
    wall_ns = training.columns["wall_ns"]
    if len(wall_ns):
        lost_ns = int(wall_ns[training.columns["index"] >= since].sum())
        sheet.put("loss.dead_time_share", lost_ns / max(int(wall_ns.sum()), 1))
