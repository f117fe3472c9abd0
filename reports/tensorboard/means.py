"""Means over a few steps: which steps have a point together, and when they ended."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

Integers = NDArray[np.int64]

EXACT_STEPS_LOG2 = 10
"""So many steps (1,024) have a point each: TensorBoard itself keeps 1,000 points of a curve."""


@dataclass(frozen=True, slots=True)
class Point:
    """One or more values at a step.

    Attributes:
        step: The last one that the values are of. at_ns: Its end, on the clock of its process.
        values: By the name of their curve.
    """

    step: int
    at_ns: int
    values: Mapping[str, float]


def bucket_start(step: int) -> int:
    """The first step of those that have a point together with this one."""
    shift = max(step.bit_length() - EXACT_STEPS_LOG2, 0)
    return step >> shift << shift


def bucket_starts(steps: Integers) -> Integers:
    """The same for many steps."""
    digits = np.frexp(steps.astype(np.float64))[1].astype(np.int64)  # binary ones of each number
    shifts = np.maximum(digits - EXACT_STEPS_LOG2, 0)
    starts: Integers = (steps >> shifts) << shifts
    return starts


class StepEnds:
    """When each step ended, in order."""

    def __init__(self) -> None:
        self._steps: list[Integers] = []
        self._ends: list[Integers] = []

    def add(self, steps: Integers, ends_ns: Integers) -> None:
        """Further steps."""
        if len(steps):
            self._steps.append(steps.copy())
            self._ends.append(ends_ns)

    @property
    def latest(self) -> tuple[int, int] | None:
        """The latest step and its end; None before there is any."""
        return (int(self._steps[-1][-1]), int(self._ends[-1][-1])) if self._steps else None

    def step_at(self, at_ns: int) -> int:
        """The step that went on then; the first or last one before or after all of them."""
        steps, ends = self._joined()
        return int(steps[min(int(np.searchsorted(ends, at_ns)), len(steps) - 1)])

    def end_of(self, step: int) -> int:
        """When the step, or else the one before it, ended."""
        steps, ends = self._joined()
        return int(ends[max(int(np.searchsorted(steps, step, "right")) - 1, 0)])

    def _joined(self) -> tuple[Integers, Integers]:
        if len(self._steps) > 1:
            self._steps, self._ends = [np.concatenate(self._steps)], [np.concatenate(self._ends)]
        return self._steps[0], self._ends[0]


class Means:
    """Means over buckets of steps of what was read during them, in order of the steps."""

    def __init__(self) -> None:
        self._rows: list[Mapping[str, float]] = []
        self._step = self._at_ns = 0

    def add(self, step: int, at_ns: int, values: Mapping[str, float]) -> Iterator[Point]:
        """The point of the bucket before, where this step begins another."""
        if bucket_start(step) != bucket_start(self._step):
            yield from self.finish()
        self._step, self._at_ns = step, at_ns
        self._rows.append(values)

    def finish(self) -> Iterator[Point]:
        """The point of the bucket that is open."""
        rows, self._rows = self._rows, []
        values: dict[str, list[float]] = {}
        for row in rows:
            for name, value in row.items():
                values.setdefault(name, []).append(value)
        if values:
            means = {name: sum(several) / len(several) for name, several in values.items()}
            yield Point(self._step, self._at_ns, means)
