"""`Signals`: what the rules judge, each a value or missing with a reason."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True)
class Signal:
    """One measured quantity.

    Attributes:
        value: None when it was not measured; then `reason` says why.
        unit: "share", "s", "ns", "bytes", "count", "bool", "text" ...
        method: One phrase on how it was obtained.
        samples: How many observations stand behind it.
        low, high: Bounds of its 90 % interval, where one could be computed.
        lost: True where a collector that should have measured it failed: then a rule's silence
            proves nothing.
    """

    value: object | None
    unit: str = ""
    method: str = ""
    samples: int | None = None
    low: float | None = None
    high: float | None = None
    reason: str | None = None
    lost: bool = False


@dataclass(frozen=True, slots=True)
class Signals:
    """Every signal of one training session, by dotted name."""

    values: Mapping[str, Signal] = field(default_factory=dict)

    def get(self, name: str) -> Signal:
        """The signal, or one that is missing because nothing measured it."""
        return self.values.get(name, Signal(None, reason=f"nothing measured {name}"))
