"""How much of the memory is in use, by what, and devices that are not used at all."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.profiler.model.records import Sample
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.models import trained_models
from trainprof.rules.signals.recomputation import memory_use
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

LEAST_SAMPLES = 5
IDLE_SHARE = 0.05
"""A device whose utilisation stays below on average counts as idle."""

DESCRIPTIONS = (
    Description("headroom.peak_share", "share", "Peak memory, as a part of what there is."),
    Description(
        "headroom.state_share", "share", "Memory of the optimizers' state, as a part of it."
    ),
    Description(
        "headroom.gradients_and_state_share", "share", "Gradients and state, as a part of it."
    ),
    Description("devices.count", "count", "GPUs that were sampled."),
    Description("devices.idle_count", "count", "Those that were idle in the steady steps."),
    Description(
        "devices.data_parallel", "count", "GPUs that nn.DataParallel spreads a batch over."
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals headroom.* and devices.*."""
    sheet = Sheet(DESCRIPTIONS)
    _memory(training, sheet)
    models = trained_models(training)
    parallel = [int(model.get("data_parallel_devices") or 0) for model in models]
    sheet.put("devices.data_parallel", max(parallel, default=0))
    samples = training.run.samples
    if training.has_window:
        start, end = training.span_ns
        samples = tuple(sample for sample in samples if start <= sample.at_ns < end)
    _devices(samples, sheet)
    return sheet.finish("it was not measured")


def _memory(training: Training, sheet: Sheet) -> None:
    peak, capacity = memory_use(training)
    if peak is None or not capacity:
        for name in ("peak_share", "state_share", "gradients_and_state_share"):
            sheet.miss(f"headroom.{name}", "peak memory or what there is of it could not be read")
        return
    optimizers = training.trainer.latest_facts("optimizer").values()
    state = sum(int(fact.data.get("state_bytes") or 0) for fact in optimizers)
    models = trained_models(training)
    elements = sum(int(model.get("parameter_count") or 0) for model in models)
    trainable = sum(int(model.get("trainable_count") or 0) for model in models)
    in_bytes = sum(int(model.get("parameter_bytes") or 0) for model in models)
    gradients = in_bytes * trainable // elements if elements else 0
    sheet.put("headroom.peak_share", peak / capacity)
    sheet.put("headroom.state_share", state / capacity)
    sheet.put("headroom.gradients_and_state_share", (gradients + state) / capacity)


def _devices(samples: Sequence[Sample], sheet: Sheet) -> None:
    used: dict[int, list[float]] = {}
    for sample in samples:
        for gpu in sample.gpus:
            if gpu.utilization_share is not None:
                used.setdefault(gpu.index, []).append(gpu.utilization_share)
    if not used or min(map(len, used.values())) < LEAST_SAMPLES:
        for name in ("count", "idle_count"):
            sheet.miss(f"devices.{name}", "no GPU was sampled, or too seldom")
        return
    idle = [one for one in used.values() if sum(one) / len(one) < IDLE_SHARE]
    sheet.put("devices.count", len(used))
    sheet.put("devices.idle_count", len(idle))
