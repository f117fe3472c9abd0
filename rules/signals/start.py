"""A published architecture in the trained model, and the weights that it began with."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.models import trained_models
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description("start.architecture", "text", "Class of timm, torchvision or transformers in it."),
    Description("start.parameter_count", "count", "Elements of it."),
    Description("start.parameter_share", "share", "Part of the trained models' elements."),
    Description("start.norms", "count", "Its normalising layers that were read."),
    Description(
        "start.untouched_share",
        "share",
        "Part of these that held what their constructor wrote, before the first update.",
    ),
    Description("start.input_channels", "count", "Input channels of its first convolution."),
    Description("start.vocabulary", "count", "Rows of its first embedding table."),
    Description("start.models", "count", "Models that are trained."),
    Description("batch.image_side", "pixels", "Shorter side of the batch's first images."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals start.*, and the size of images."""
    sheet = Sheet(DESCRIPTIONS)
    key = training.loader.key
    batch = None if key is None else training.trainer.latest_facts("batch").get(key)
    side = None if batch is None else _image_side(batch.data)
    sheet.put("batch.image_side", side, reason="a batch holds no images")
    models = training.trainer.latest_facts("model")
    trained = {key for key, fact in models.items() if fact.data.get("trained", True)}
    sheet.put("start.models", len(trained), reason="no model was described")
    facts = training.trainer.latest_facts("start")
    found = [fact.data for key, fact in facts.items() if key in trained]
    if len(found) != 1:
        none = "none of the trained models is of timm, torchvision or transformers"
        return sheet.finish(none if not found else "there are several")
    (data,) = found
    total = sum(int(one.get("parameter_count") or 0) for one in trained_models(training))
    parameters = int(data.get("parameters") or 0)
    sheet.put("start.architecture", data.get("type"))
    sheet.put("start.parameter_count", parameters)
    sheet.put("start.parameter_share", parameters / total if total else None)
    norms = int(data.get("norms") or 0)
    sheet.put("start.norms", norms)
    share = int(data.get("norms_untouched") or 0) / norms if norms else None
    sheet.put("start.untouched_share", share, reason="no normalising layer could be read")
    sheet.put("start.input_channels", data.get("input_channels"), reason="it has no convolution")
    sheet.put("start.vocabulary", data.get("vocabulary"), reason="it has no embedding table")
    return sheet.finish("it was not read")


def _image_side(batch: Mapping[str, Any]) -> int | None:
    """Of the first tensor with four dimensions, channels before or after the sides."""
    for tensor in batch.get("tensors") or ():
        shape = [int(length) for length in tensor.get("shape") or ()]
        if len(shape) == 4:
            return min(shape[1:3]) if shape[-1] in (1, 3, 4) else min(shape[2:])
    return None
