"""The loss: whether it was seen, and whether it stayed a number."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("loss.count", "count", "Loss values that were read."),
    Description("loss.finite", "bool", "All of them are numbers: no NaN, no infinity."),
    Description("loss.first_nonfinite_step", "count", "Step of the first that is not."),
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
    first = int(losses["step"][wrong][0]) if wrong.any() else None
    sheet.put("loss.first_nonfinite_step", first, reason="every loss is finite")
    return sheet.finish("it was not read")
