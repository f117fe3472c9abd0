"""Numbers too small for the CPU's fast way, as a few looks at a training have shown."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training

DESCRIPTIONS = (
    Description(
        "denormals.fraction",
        "share",
        "Part of the elements looked at that are subnormal, in the kind of tensors with most.",
    ),
    Description("denormals.kind", "text", "That kind: parameters, operands, ..."),
    Description("denormals.worst", "text", "The tensor with the largest part of them."),
    Description(
        "denormals.speedup",
        "ratio",
        "Operators with such inputs as they are, over the same with subnormals taken for zero.",
    ),
    Description("denormals.forward_share", "share", "Part of the step saved in forwards then."),
    Description(
        "denormals.update_share",
        "share",
        "Part of the step saved in one pass over parameters, gradients and the optimizer's state.",
    ),
    Description("denormals.looks", "count", "Steps that were looked at."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals denormals.*."""
    sheet = Sheet(DESCRIPTIONS)
    lost = training.failures.get("denormals")
    if lost is not None:
        for description in DESCRIPTIONS:
            sheet.miss(description.name, lost, lost=True)
        return sheet.finish(lost)
    fact = training.trainer.latest_facts("denormals").get("all")
    if fact is None:
        return sheet.finish("the training was not looked at for subnormal numbers")
    if fact.data.get("flushed"):
        return sheet.finish("the CPU takes subnormal numbers for zero already")
    _count(fact.data, sheet)
    _trials(fact.data, sheet)
    return sheet.finish("no operator with subnormal inputs was tried")


def _count(data: Mapping[str, Any], sheet: Sheet) -> None:
    elements, subnormal = dict(data.get("elements") or {}), dict(data.get("subnormal") or {})
    fractions = {kind: subnormal.get(kind, 0) / seen for kind, seen in elements.items() if seen}
    if not fractions:
        reason = "there was no float32 tensor on the CPU to look at"
        sheet.miss("denormals.fraction", reason)
        return
    kind = max(fractions, key=lambda one: fractions[one])
    sheet.put("denormals.fraction", fractions[kind], samples=elements[kind])
    sheet.put("denormals.kind", kind if fractions[kind] else None, reason="none was subnormal")
    sheet.put("denormals.worst", data.get("worst"), reason="none was subnormal")


def _trials(data: Mapping[str, Any], sheet: Sheet) -> None:
    """From the looks that found some, for as large a part of the time as the looks that did."""
    rows = [row for row in data.get("samples") or () if len(row) == 5 and row[0] > 0]
    sheet.put("denormals.looks", len(rows))
    ill = np.array([row for row in rows if row[1] + row[3]], dtype=np.float64)
    if not len(ill):
        return
    part = len(ill) / len(rows)
    step_ns, *tried = ill.sum(axis=0)
    speedup = (tried[0] + tried[2]) / max(tried[1] + tried[3], 1.0)
    sheet.put("denormals.speedup", float(speedup), samples=len(ill))
    for name, plain, flushed in (("forward", 1, 2), ("update", 3, 4)):
        saved = ill[:, plain] - ill[:, flushed]
        shares = np.minimum(part * saved / ill[:, 0], 1.0)
        sheet.put(
            f"denormals.{name}_share",
            min(part * float(saved.sum() / step_ns), 1.0),
            method="operators tried with and without the CPU's switch",
            samples=len(rows),
            low=float(shares.min()),
            high=float(shares.max()),
        )
