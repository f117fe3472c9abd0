"""The models that are trained, the batches they get, and the optimizer that moves them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training, location

OPTIMIZER_SETTINGS = (
    Description("optimizer.type", "text", "Class of the optimizer: of those at work, the largest."),
    Description(
        "optimizer.implementation", "text", "What it really runs: forloop, foreach, fused."
    ),
    Description("optimizer.fused_supported", "bool", "A fused implementation exists for it here."),
    Description("optimizer.tensor_count", "count", "Tensors that it updates."),
    Description("optimizer.parameter_count", "count", "Elements of them."),
    Description("optimizer.state_bytes", "bytes", "Memory of its state."),
    Description("optimizer.params_in_no_group", "count", "Trainable elements that no group holds."),
)

DESCRIPTIONS = (
    Description("model.type", "text", "Class of the largest trained model."),
    Description("model.parameter_count", "count", "Elements of all trained models."),
    Description("model.parameter_bytes", "bytes", "Memory of them."),
    Description("model.trainable_count", "count", "Elements that take part in training."),
    Description("model.submodule_count", "count", "Submodules of all trained models."),
    Description("model.dtypes", "mapping", "Elements by data type."),
    Description("model.devices", "mapping", "Elements by device."),
    Description("model.float64_share", "share", "Part of the elements in double precision."),
    Description("model.wrapper", "text", "What wraps the largest model (DDP, FSDP, compile ...)."),
    Description("model.batch_norms", "count", "BatchNorm layers that learn from each batch."),
    Description("model.convolutions", "count", "Convolutions of all trained models."),
    Description(
        "model.image_convolutions", "count", "Those over images, which may have channels last."
    ),
    Description(
        "model.switchable_attentions",
        "count",
        "Attentions of torch and of transformers that may be written out or fused by a switch.",
    ),
    Description(
        "model.biases_before_norm", "count", "Those with a bias that a BatchNorm takes away again."
    ),
    Description("model.where", "place", "Where the largest model's class is defined."),
    Description("batch.dtypes", "mapping", "Tensors of a batch by data type."),
    Description("batch.bytes", "bytes", "Size of a batch."),
    Description("batch.float64", "bool", "A batch holds double precision."),
    Description("batch.tensors", "text", "Types of a batch's tensors, in their order."),
    *OPTIMIZER_SETTINGS,
    Description("optimizer.count", "count", "Optimizers that were seen."),
    Description("optimizer.learning_rate", "number", "Learning rate of the largest's first group."),
    Description("optimizer.list", "list", "All optimizers, as their facts."),
    Description("optimizer.momentum", "number", "Momentum of its first group."),
    Description("optimizer.where", "place", "Where it was made."),
    Description(
        "optimizer.unfused_places",
        "list",
        "Where optimizers at work were made that could be fused and are not, the largest first.",
    ),
)

LAYERS = (
    "batch_norms",
    "convolutions",
    "image_convolutions",
    "switchable_attentions",
    "biases_before_norm",
)
"""Counts of layers in a model's fact."""

LEAST_UPDATES_SHARE = 0.1
"""Of the updates of the busiest optimizer: one with fewer was tried, or has another task."""

Fact = Mapping[str, Any]


def measure(training: Training) -> dict[str, Signal]:
    """Signals model.*, batch.* and optimizer.*."""
    sheet = Sheet(DESCRIPTIONS)
    _models(training, sheet)
    _batch(training, sheet)
    _optimizers(training, sheet)
    return sheet.finish("the agent described no such object")


def trained_models(training: Training) -> list[Fact]:
    """The models whose forwards are followed by a backward, the largest first."""
    facts = [fact.data for fact in training.trainer.latest_facts("model").values()]
    trained = [fact for fact in facts if fact.get("trained", True)]
    return sorted(trained or facts, key=_elements, reverse=True)


def all_on_cpu(training: Training) -> bool:
    """Whether all parameters of the trained models lie in host memory."""
    devices = {
        device for model in trained_models(training) for device in (model.get("devices") or {})
    }
    return all(str(device).startswith("cpu") for device in devices)


def _elements(fact: Fact) -> int:
    return int(fact.get("parameter_count") or 0)


def _models(training: Training, sheet: Sheet) -> None:
    models = trained_models(training)
    if not models:
        return
    for key in ("parameter_count", "parameter_bytes", "trainable_count", "submodule_count"):
        sheet.put(f"model.{key}", sum(int(model.get(key) or 0) for model in models))
    for key in LAYERS:
        counts = [model[key] for model in models if isinstance(model.get(key), int)]
        sheet.put(f"model.{key}", sum(counts) if counts else None, reason="an older agent")
    dtypes, devices = _summed(models, "dtypes"), _summed(models, "devices")
    sheet.put("model.dtypes", dtypes or None, reason="no model has parameters")
    sheet.put("model.devices", devices or None, reason="no model has parameters")
    total = sum(dtypes.values())
    doubles = sum(count for name, count in dtypes.items() if "float64" in name)
    share = doubles / total if total else None
    sheet.put("model.float64_share", share, reason="no model has parameters")
    largest = models[0]
    sheet.put("model.type", largest.get("type"))
    sheet.put("model.wrapper", largest.get("wrapper"), reason="nothing wraps it")
    sheet.put("model.where", location(largest.get("where")), reason="its class has no source file")


def _summed(models: list[Fact], key: str) -> dict[str, int]:
    totals: dict[str, int] = {}
    for model in models:
        for name, count in dict(model.get(key) or {}).items():
            totals[name] = totals.get(name, 0) + int(count)
    return totals


def _batch(training: Training, sheet: Sheet) -> None:
    key = training.loader.key
    fact = training.trainer.latest_facts("batch").get(key) if key is not None else None
    if fact is None:
        return
    tensors = list(fact.data.get("tensors") or ())
    dtypes: dict[str, int] = {}
    for tensor in tensors:
        dtypes[str(tensor.get("dtype"))] = dtypes.get(str(tensor.get("dtype")), 0) + 1
    none = "a batch holds no tensor"
    sheet.put("batch.dtypes", dtypes or None, reason=none)
    sheet.put("batch.bytes", fact.data.get("bytes") if tensors else None, reason=none)
    doubles = any("float64" in name for name in dtypes)
    sheet.put("batch.float64", doubles if tensors else None, reason=none)
    names = ", ".join(str(tensor.get("dtype")) for tensor in tensors)
    sheet.put("batch.tensors", names or None, reason=none)


def _at_work(training: Training) -> list[Fact]:
    """The optimizers that made the updates, without those of a trial before the training."""
    seen = training.trainer.info.seen
    facts = training.trainer.latest_facts("optimizer")
    updates = {key: seen.get(f"updates_{key}", 0) for key in facts}
    least = LEAST_UPDATES_SHARE * max(updates.values(), default=0)
    return [facts[key].data for key, times in updates.items() if times > 0 and times >= least]


def _optimizers(training: Training, sheet: Sheet) -> None:
    facts = [fact.data for fact in training.trainer.latest_facts("optimizer").values()]
    if not facts:
        for description in DESCRIPTIONS:
            if description.name.startswith("optimizer."):
                sheet.miss(description.name, "no optimizer was seen")
        return
    sheet.put("optimizer.count", len(facts))
    sheet.put("optimizer.list", tuple(facts))
    at_work = sorted(_at_work(training) or facts, key=_elements, reverse=True)
    largest = at_work[0]
    sheet.put("optimizer.unfused_places", _unfused_places(at_work))
    for setting in OPTIMIZER_SETTINGS:
        key = setting.name.partition(".")[2]
        sheet.put(setting.name, largest.get(key), reason="it is none of torch's own optimizers")
    sheet.put("optimizer.where", location(largest.get("where")), reason="a library made it")
    groups = list(largest.get("groups") or ())
    rate = groups[0].get("lr") if groups else None
    rate = float(rate) if isinstance(rate, (int, float)) else None
    sheet.put("optimizer.learning_rate", rate, reason="it is a tensor, or there is none")
    momentum = groups[0].get("momentum") if groups else None
    sheet.put("optimizer.momentum", momentum, reason="it has no momentum")


def _unfused_places(facts: Sequence[Fact]) -> tuple[Location, ...]:
    places = [
        location(fact.get("where"))
        for fact in facts
        if fact.get("fused_supported") and fact.get("implementation") in ("forloop", "foreach")
    ]
    return tuple(dict.fromkeys(one for one in places if one is not None))
