"""One topic's signals: described first, then each put or missing with a reason."""

from __future__ import annotations

import math
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np

from trainprof.profiler.model.signals import Signal
from trainprof.rules.statistics.intervals import Interval


@dataclass(frozen=True, slots=True)
class Description:
    """A signal's page entry: docs/signals.md is written from these.

    Attributes:
        name: Dotted name; a last part in angle brackets stands for any key ("flags.<key>").
        unit: "s", "share", "bytes", "count", "bool", "text", "place" ...
        text: What it is, in one sentence.
    """

    name: str
    unit: str
    text: str


class Sheet:
    """The signals of one topic while they are measured.

    Every signal that the topic describes ends up on the sheet: `finish` says of those that nobody
    put why they are missing.
    """

    def __init__(self, descriptions: Iterable[Description]) -> None:
        self._units = {description.name: description.unit for description in descriptions}
        self._signals: dict[str, Signal] = {}

    def put(
        self,
        name: str,
        value: object | None,
        *,
        reason: str = "",
        method: str = "",
        samples: int | None = None,
        low: float | None = None,
        high: float | None = None,
    ) -> None:
        """Notes a value; None or a number that is not finite is missing, because of `reason`."""
        unit = self._unit(name)
        if isinstance(value, np.generic):  # JSON knows Python's numbers only
            value = value.item()
        if value is None or (isinstance(value, float) and not math.isfinite(value)):
            self.miss(name, reason or "it could not be read")
        else:
            self._signals[name] = Signal(value, unit, method, samples, low, high)

    def put_interval(
        self, name: str, interval: Interval, *, method: str = "", samples: int | None = None
    ) -> None:
        """Notes a mean with its 90 % interval."""
        self.put(
            name,
            interval.mean,
            method=method,
            samples=samples,
            low=interval.low,
            high=interval.high,
        )

    def miss(self, name: str, reason: str, *, lost: bool = False) -> None:
        """Notes that a signal could not be measured, and why; `lost` if a collector failed."""
        self._signals[name] = Signal(None, self._unit(name), reason=reason, lost=lost)

    def value(self, name: str) -> object | None:
        """What was put under a name, None where it is missing."""
        signal = self._signals.get(name)
        return None if signal is None else signal.value

    def finish(self, reason: str) -> dict[str, Signal]:
        """All signals; those described and not put are missing because of `reason`."""
        for name in self._units:
            if name not in self._signals and "<" not in name:
                self.miss(name, reason)
        return dict(self._signals)

    def _unit(self, name: str) -> str:
        family = f"{name.partition('.')[0]}.<key>"
        unit = self._units.get(name, self._units.get(family))
        if unit is None:
            raise KeyError(f"the signal {name} is not described")
        return unit
