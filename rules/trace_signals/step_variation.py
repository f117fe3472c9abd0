"""Steps of a trace that took longer than the others, and what took longer in them."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.profiler.traces.step_variation import LEAST_STEPS, StepVariation, step_variation
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.trace_signals.traced import Traced

DESCRIPTIONS = (
    Description("step_variation.median_s", "s", "Median length of the steps."),
    Description(
        "step_variation.deviation_share", "share", "Median absolute deviation, as part of it."
    ),
    Description("step_variation.outliers", "count", "Steps that are far longer."),
    Description(
        "step_variation.excess_share", "share", "Part of the window by which they are longer."
    ),
    Description("step_variation.longest", "text", "The longest of them, as the profiler marks it."),
    Description("step_variation.longest_s", "s", "Its length."),
    Description(
        "step_variation.grown", "text", "What took longer in it: of the host's events that explain "
        "at least half of it, the shortest."
    ),
    Description("step_variation.grown_s", "s", "By how much, against the median of the others."),
    Description("step_variation.part", "text", "The part of the device's time that grew most."),
    Description("step_variation.part_s", "s", "By how much."),
)  # fmt: skip


def measure(traced: Traced) -> dict[str, Signal]:
    """Signals step_variation.*."""
    sheet = Sheet(DESCRIPTIONS)
    found = step_variation(traced.trace, traced.timeline)
    if found is None:
        return sheet.finish(f"the trace marks fewer than {LEAST_STEPS} steps")
    window = traced.timeline.window
    sheet.put("step_variation.median_s", found.median_ns / 1e9)
    sheet.put("step_variation.deviation_share", found.deviation_ns / max(found.median_ns, 1))
    sheet.put("step_variation.outliers", int(found.outliers.sum()))
    share = found.excess_ns / max(window.length_ns, 1)
    sheet.put("step_variation.excess_share", share, method=window.text)
    if found.mark is not None:
        _longest(sheet, found)
    return sheet.finish("no step is far longer than the others, or nothing recorded explains it")


def _longest(sheet: Sheet, found: StepVariation) -> None:
    sheet.put("step_variation.longest", found.mark)
    sheet.put("step_variation.longest_s", int(found.lengths_ns[found.longest]) / 1e9)
    if found.grown is not None:
        sheet.put("step_variation.grown", found.grown)
        sheet.put("step_variation.grown_s", found.grown_ns / 1e9)
    if found.parts:
        part = max(found.parts, key=lambda one: found.parts[one])
        sheet.put("step_variation.part", part)
        sheet.put("step_variation.part_s", found.parts[part] / 1e9)
