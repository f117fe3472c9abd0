"""Output channels of the trained layers that give nothing, and the work that goes into them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

LEAST_DEAD_SHARE = 0.20
"""Part of a layer's channels; a few dead ones are in most networks (a starting value)."""

LEAST_VALUES = 1_000
"""Values of a channel that were looked at before it can count as never active."""

LEAST_TIMES_ACTIVE = 20
"""How often all but a tenth of the active channels were: rarely active ones are no dead ones."""

LAYERS_NAMED = 4

DESCRIPTIONS = (
    Description("units.layers", "count", "Convolutions and linear layers that were watched."),
    Description("units.sparse", "bool", "Weights are pruned, masked or parametrized."),
    Description("units.dead_layers", "text", "Layers of which a fifth of the channels is dead."),
    Description("units.dead_share", "share", "Part of the channels of these layers."),
    Description("units.dead_kind", "text", "Whether they were never active, or have no weights."),
    Description(
        "units.dead_layer_work_share",
        "share",
        "Part of the watched layers' floating-point operations in these layers; of their "
        "parameters where the layers were not seen running.",
    ),
    Description("units.idle_work_share", "share", "The same for the dead channels themselves."),
    Description("units.work", "text", "What that share is of: operations or parameters."),
    Description("units.zero_share", "share", "Part of all their weights below 1e-8."),
    Description("units.sampled_steps", "count", "Steps on which activations were looked at."),
    Description(
        "units.first_update", "count", "Update before which nothing counts for these layers."
    ),
)


@dataclass(frozen=True, slots=True)
class _Layer:
    name: str
    channels: int
    dead: int
    inactive: bool
    work: int
    since: int


def measure(training: Training) -> dict[str, Signal]:
    """Signals units.*."""
    sheet = Sheet(DESCRIPTIONS)
    fact = training.trainer.latest_facts("units").get("all")
    if fact is None:
        return sheet.finish("no layer of the trained models could be watched")
    data = fact.data
    known = [layer for layer in data.get("layers") or () if layer.get("channels")]
    sheet.put("units.layers", len(known))
    sheet.put("units.sparse", bool(data.get("sparse")))
    sheet.put("units.sampled_steps", data.get("sampled_steps"))
    if not known:
        return sheet.finish("no layer of the trained models could be watched")
    weights = sum(int(layer["parameters"]) for layer in known)
    zeros = sum(layer["parameters"] * float(layer.get("zero_share") or 0.0) for layer in known)
    sheet.put("units.zero_share", zeros / weights if weights else None)
    _dead(sheet, known, int(data.get("last_update") or 0))
    return sheet.finish("no layer has so many dead channels")


def _dead(sheet: Sheet, known: Sequence[Mapping[str, Any]], now: int) -> None:
    running = any(layer.get("flops") for layer in known)
    work = "flops" if running else "parameters"
    layers = [_read(layer, work, now) for layer in known]
    total = sum(layer.work for layer in layers)
    dead = [layer for layer in layers if layer.dead >= LEAST_DEAD_SHARE * layer.channels]
    if not dead or not total:
        return
    dead.sort(key=lambda layer: -layer.work)
    named = [layer.name for layer in dead[:LAYERS_NAMED]]
    more = f" and {len(dead) - len(named)} more" if len(dead) > len(named) else ""
    inactive = any(layer.inactive for layer in dead)
    sheet.put("units.first_update", min(layer.since for layer in dead))
    sheet.put("units.dead_layers", ", ".join(named) + more)
    channels = sum(layer.channels for layer in dead)
    sheet.put("units.dead_share", sum(layer.dead for layer in dead) / channels)
    sheet.put("units.dead_kind", "never active" if inactive else "without weights")
    sheet.put("units.dead_layer_work_share", sum(layer.work for layer in dead) / total)
    idle = sum(layer.work * layer.dead / layer.channels for layer in dead)
    sheet.put("units.idle_work_share", idle / total)
    of = "the floating-point operations" if running else "the parameters"
    sheet.put("units.work", f"{of} of its convolutions and linear layers")


def _read(layer: Mapping[str, Any], work: str, now: int) -> _Layer:
    """Weights are read anew until the end, so what is said of them is of that update."""
    empty = int(layer.get("zero_rows") or 0)
    inactive = _never_active(layer)
    return _Layer(
        str(layer.get("name")),
        int(layer["channels"]),
        max(empty, inactive),
        inactive > empty,
        int(layer.get(work) or 0),
        int(layer.get("first_update") or 0) if inactive > empty else now,
    )


def _never_active(layer: Mapping[str, Any]) -> int:
    """Channels that were surely never active; none where the others are seldom active as well."""
    count = int(layer.get("never_active") or 0)
    often = int(layer.get("active_decile") or 0) >= LEAST_TIMES_ACTIVE
    enough = int(layer.get("rows") or 0) >= LEAST_VALUES
    return count if enough and (often or count == layer["channels"]) else 0
