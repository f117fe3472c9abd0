"""Updates that a GradScaler skipped."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("scaler.batches", "count", "Batches in the window that went through a scaler."),
    Description("scaler.skipped", "count", "Updates of these that it skipped."),
    Description("scaler.skipped_share", "share", "These as a part of the batches."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals scaler.*; those skipped before a first scale worked are left out."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    counts = dict.fromkeys(("steps", "skipped", "searching", "untold"), 0.0)
    for event, part in training.overlapping("scaler"):
        for name in counts:
            counts[name] += int(event.data.get(name) or 0) * part
    if not counts["steps"]:
        return sheet.finish("no GradScaler was used in the window")
    told = counts["steps"] - counts["untold"] - counts["searching"]
    if told < 1.0:
        return sheet.finish("a fused optimizer skips inside its kernel, which tells nobody")
    sheet.put("scaler.batches", told, method="counted by the second")
    sheet.put("scaler.skipped", counts["skipped"], method="counted by the second")
    sheet.put("scaler.skipped_share", min(counts["skipped"] / told, 1.0))
    return sheet.finish("it was not measured")
