"""What was seen of the training's objects, and every signal, as plain JSON values."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import TYPE_CHECKING

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.signals import Signal, Signals

if TYPE_CHECKING:
    from trainprof.profiler.model.run import ProcessRecord

KINDS = (
    "model",
    "optimizer",
    "loader",
    "batch",
    "flags",
    "distributed",
    "memory",
    "untrained",
    "frozen",
    "gradients",
    "padding",
    "start",
    "units",
    "denormals",
    "dataset",
)

MOST_SUBMODULES = 200
"""Submodules of a model that go into a report; the facts file holds up to 2,000."""


def collect_facts(trainer: ProcessRecord, signals: Signals) -> dict[str, object]:
    """The latest facts by kind and key, and under "signals" all that was measured."""
    facts: dict[str, object] = {}
    for kind in KINDS:
        latest = {key: _short(fact.data) for key, fact in trainer.latest_facts(kind).items()}
        if latest:
            facts[kind] = plain(latest)
    return facts | signal_facts(signals)


def signal_facts(signals: Signals) -> dict[str, object]:
    """All that was measured, under "signals"."""
    return {"signals": {name: _signal(signal) for name, signal in signals.values.items()}}


def _short(data: Mapping[str, object]) -> dict[str, object]:
    data = {key: value for key, value in data.items() if key != "rows"}
    nodes = data.get("submodules")
    if isinstance(nodes, list) and len(nodes) > MOST_SUBMODULES:
        return {**data, "submodules": nodes[:MOST_SUBMODULES]}
    return dict(data)


def _signal(signal: Signal) -> dict[str, object]:
    if signal.value is None:
        return {"value": None, "unit": signal.unit, "reason": signal.reason}
    described: dict[str, object] = {"value": plain(signal.value), "unit": signal.unit}
    for name in ("low", "high", "samples"):
        value = getattr(signal, name)
        if value is not None:
            described[name] = plain(value)
    if signal.method:
        described["method"] = signal.method
    return described


def plain(value: object) -> object:
    """A value as JSON can hold it: no places, tuples or numbers that are not finite."""
    if isinstance(value, float) and not math.isfinite(value):
        return str(value)
    if isinstance(value, Location):
        return {"file": value.file, "line": value.line, "function": value.function}
    if isinstance(value, Mapping):
        return {str(key): plain(inner) for key, inner in value.items()}
    if isinstance(value, (list, tuple)):
        return [plain(inner) for inner in value]
    if value is None or isinstance(value, (bool, int, float, str)):
        return value
    return str(value)
