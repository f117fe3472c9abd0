"""What torch.compile compiled while the training was steady."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.models import trained_models
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, most_frequent_place

DESCRIPTIONS = (
    Description("compilation.in_use", "bool", "torch.compile is at work in the training."),
    Description("compilation.recompiles", "count", "Frames compiled again in the window."),
    Description("compilation.mean_s", "s", "Mean time that this took."),
    Description("compilation.where", "place", "Where most of them were called."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals compilation.*."""
    sheet = Sheet(DESCRIPTIONS)
    lost = training.lost_phases.get("compile")
    if lost is not None:
        for description in DESCRIPTIONS:
            sheet.miss(description.name, lost, lost=True)
        return sheet.finish(lost)
    sheet.put("compilation.in_use", bool(training.events("compile")) or _is_wrapped(training))
    if not training.has_window:
        return sheet.finish("no step was completed")
    again = [event for event in training.steady_events("compile") if event.data.get("recompiles")]
    sheet.put("compilation.recompiles", len(again))
    if again:
        mean_ns = sum(event.duration_ns for event in again) / len(again)
        sheet.put("compilation.mean_s", mean_ns / 1e9, samples=len(again))
        sheet.put("compilation.where", most_frequent_place(again), reason="it was not seen")
    return sheet.finish("nothing was compiled again in the window")


def _is_wrapped(training: Training) -> bool:
    """Its cache of compiled code may have spared it any compilation."""
    return any(model.get("wrapper") == "OptimizedModule" for model in trained_models(training))
