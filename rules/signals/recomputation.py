"""Activation checkpointing: what it costs, and whether memory would do without it."""

from __future__ import annotations

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.models import all_on_cpu, trained_models
from trainprof.rules.signals.own_gpus import own_gpus
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, most_frequent_place
from trainprof.rules.statistics.intervals import ratio_intervals

DESCRIPTIONS = (
    Description("recompute.calls_per_step", "count", "Checkpointed calls in a step."),
    Description(
        "recompute.share", "share", "Part of the step in which the backward repeats forwards."
    ),
    Description("recompute.where", "place", "Where `checkpoint()` is called."),
    Description("recompute.memory_share", "share", "Part of the memory there is in use, at most."),
    Description(
        "recompute.memory_share_without",
        "share",
        "Upper bound of the memory in use without checkpointing, as a part of what there is.",
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals recompute.*."""
    sheet = Sheet(DESCRIPTIONS)
    if not training.has_window:
        return sheet.finish("no step was completed")
    lost = training.failures.get("hooks_recompute")
    if lost is not None:
        for description in DESCRIPTIONS:
            sheet.miss(description.name, lost, lost=True)
        return sheet.finish(lost)
    parts = list(training.overlapping("recompute"))
    calls = sum(event.data.get("calls", 0) * part for event, part in parts)
    sheet.put("recompute.calls_per_step", calls / len(training.window))
    if not parts:
        return sheet.finish("activation checkpointing is not in use")
    place = most_frequent_place(training.events("recompute"))
    sheet.put("recompute.where", place, reason="a library calls it")
    if all_on_cpu(training):
        spent = np.array([e.data.get("total_ns", 0) * part for e, part in parts], dtype=np.float64)
        spans = np.array([e.duration_ns * part for e, part in parts], dtype=np.float64)
        share = ratio_intervals([spent], spans, 1)[0]
        sheet.put_interval("recompute.share", share, method="summed per second")
    else:
        sheet.miss("recompute.share", "the host's clock does not tell an accelerator's time")
    peak, capacity = memory_use(training)
    if peak is None or not capacity:
        return sheet.finish("peak memory or what there is of it could not be read")
    sheet.put("recompute.memory_share", peak / capacity)
    bound = _bytes_without(training, peak, calls)
    sheet.put("recompute.memory_share_without", bound / capacity, method="an upper bound")
    return sheet.finish("it was not measured")


def _bytes_without(training: Training, peak: int, calls: float) -> float:
    """What one region's activations take at most, times the regions of a backward.

    All that is not a parameter, a gradient or the optimizer's state is counted as activations of a
    single region, so the bound is far too high rather than too low.
    """
    backwards = len(training.window) * float(training.steady("micro_batches").mean())
    regions = max(1.0, calls / backwards)
    return peak + (regions - 1.0) * max(peak - held_bytes(training), 0)


def memory_use(training: Training) -> tuple[int | None, int | None]:
    """Peak bytes and bytes that were there for them: of the fullest device, else of the host."""
    fact = training.trainer.latest_facts("memory").get("peak")
    data = fact.data if fact is not None else {}
    samples = training.run.samples
    if not all_on_cpu(training):
        return data.get("accelerator_peak_bytes"), _device_bytes(training)
    peak = data.get("peak_rss_bytes")
    available = [
        sample.machine.memory_available_bytes
        for sample in samples
        if sample.machine.memory_available_bytes is not None
    ]
    return peak, peak + min(available) if peak is not None and available else None


def _device_bytes(training: Training) -> int | None:
    """Memory of the smallest GPU that is the training's, or may be; None of a split one (MIG)."""
    own = own_gpus(training).indices
    gpus = [gpu for sample in training.run.samples for gpu in sample.gpus]
    mine = [gpu for gpu in gpus if gpu.index in own] or gpus
    if any(gpu.mig_enabled for gpu in mine):
        return None
    return min((g.memory_total_bytes for g in mine if g.memory_total_bytes), default=None)


def held_bytes(training: Training) -> int:
    """Parameters, their gradients and the optimizers' state."""
    models = trained_models(training)
    parameters = sum(int(model.get("parameter_bytes") or 0) for model in models)
    elements = sum(int(model.get("parameter_count") or 0) for model in models)
    trainable = sum(int(model.get("trainable_count") or 0) for model in models)
    gradients = parameters * trainable // elements if elements else 0
    optimizers = training.trainer.latest_facts("optimizer").values()
    state = sum(int(fact.data.get("state_bytes") or 0) for fact in optimizers)
    return parameters + gradients + state
