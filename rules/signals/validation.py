"""Validation between the training steps: how often, how long, how it is done."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, location

DESCRIPTIONS = (
    Description("validation.count", "count", "Steps of the window that hold a validation."),
    Description("validation.mean_s", "s", "Mean length of one."),
    Description("validation.interval_steps", "count", "Mean number of steps between two."),
    Description(
        "validation.grad_share",
        "share",
        "Part of its forwards in evaluation mode that ran with gradients enabled.",
    ),
    Description("validation.batch_size", "count", "Samples in a batch of its loader."),
    Description("validation.where", "place", "Where its loader was made."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals validation.*."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    times_ns = training.steady("validation_ns")
    places = np.flatnonzero(times_ns)
    sheet.put("validation.count", len(places), samples=len(times_ns))
    if len(places):
        sheet.put("validation.mean_s", float(times_ns[places].mean()) / 1e9, samples=len(places))
        interval = float(np.diff(places).mean()) if len(places) > 1 else None
        sheet.put("validation.interval_steps", interval, reason="one validation has no interval")
        _loader(training, sheet)
    _gradients(training, sheet)
    return sheet.finish("no validation was seen in the window")


def _gradients(training: Training, sheet: Sheet) -> None:
    """From the forwards that the agent saw at the ends of the validations."""
    seen = [event.data for event in training.events("validation")]
    forwards = sum(int(data.get("forwards") or 0) for data in seen)
    with_grad = sum(int(data.get("with_grad") or 0) for data in seen)
    share = with_grad / forwards if forwards else None
    reason = "no forward in evaluation mode was seen in a validation"
    sheet.put("validation.grad_share", share, reason=reason, samples=forwards)


def _loader(training: Training, sheet: Sheet) -> None:
    """Of the validation's loader: the one that was iterated most often."""
    facts = [fact.data for fact in training.trainer.latest_facts("loader").values()]
    validating = [fact for fact in facts if fact.get("role") == "validation"]
    if not validating:
        for name in ("validation.batch_size", "validation.where"):
            sheet.miss(name, "it uses no DataLoader")
        return
    fact = max(validating, key=lambda one: int(one.get("iterators_made") or 0))
    sheet.put("validation.batch_size", fact.get("batch_size"), reason="it batches by itself")
    sheet.put("validation.where", location(fact.get("where")), reason="a library made the loader")
