"""Sequences of operators that repeat: loops written in Python."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from trainprof.profiler.traces.short_operators import SHORT_PAUSE_NS
from trainprof.rules.operator_table import BACKWARD, FORWARD, Call, OperatorTable

LEAST_TURNS = 10
"""Fewer repetitions are a stack of layers or a handful of terms (torch's own pattern matcher takes
10 for its loop over indices)."""

_LAYERS = ("linear", "conv1d", "conv2d", "conv3d", "layer_norm", "batch_norm", "group_norm")

LONGEST_BODY = 300
"""Operators of one turn."""


@dataclass(frozen=True, slots=True)
class Repetition:
    """A loop.

    Attributes:
        calls: All turns, in order; a last one may be incomplete.
        period: Operators of a turn.
    """

    calls: tuple[Call, ...]
    period: int

    @property
    def turns(self) -> int:
        """Whole repetitions."""
        return len(self.calls) // self.period

    @property
    def total_ns(self) -> int:
        """All operators, short pauses between them for Python, and their backward."""
        pauses = (after.start_ns - before.end_ns for before, after in pairwise(self.calls))
        between = sum(min(max(pause, 0), SHORT_PAUSE_NS) for pause in pauses)
        return between + sum(call.total_ns for call in self.calls)

    def weights(self) -> Iterator[list[int]]:
        """For each layer of the body: the storages of its weights, turn by turn.

        Frozen ones are no parameters of the optimizer, yet tell one layer from the next.
        """
        for place in range(self.period):
            column = self.calls[place : self.turns * self.period : self.period]
            if column[0].name in _LAYERS and len(column[0].storages) > 1:
                yield [call.storages[1] for call in column]

    def reads(self) -> Iterator[list[int]]:
        """For each input of each operator of the body: the storages that the turns gave it."""
        for place in range(self.period):
            column = self.calls[place : self.turns * self.period : self.period]
            for given in zip(*(call.storages for call in column), strict=False):
                yield list(given)


def find_repetitions(calls: Sequence[Call], key: Callable[[Call], Hashable]) -> list[Repetition]:
    """Loops of at least `LEAST_TURNS` turns whose operators agree in `key`, the longest first."""
    numbers: dict[Hashable, int] = {}
    codes = np.array([numbers.setdefault(key(call), len(numbers)) for call in calls], np.int64)
    candidates = [
        (length, -period, start)
        for period in range(1, min(LONGEST_BODY, len(codes) // LEAST_TURNS) + 1)
        for start, length in _runs(codes, period)
    ]
    found: list[tuple[int, Repetition]] = []
    taken = np.zeros(len(codes), np.bool_)
    for length, negative, start in sorted(candidates, reverse=True):
        if not taken[start : start + length].any():
            taken[start : start + length] = True
            found.append((start, Repetition(tuple(calls[start : start + length]), -negative)))
    return [repetition for _, repetition in found]


def _runs(codes: NDArray[np.int64], period: int) -> Iterator[tuple[int, int]]:
    """Start and length of each stretch that repeats with a period often enough."""
    same = np.concatenate(([False], codes[period:] == codes[:-period], [False]))
    edges = np.flatnonzero(same[1:] != same[:-1])
    for start, stop in zip(edges[::2], edges[1::2], strict=True):
        if stop - start >= period * (LEAST_TURNS - 1):
            yield int(start), int(stop - start) + period


def forward_segments(table: OperatorTable) -> Iterator[list[Call]]:
    """The forwards of a step: several with accumulation or several optimizers."""
    segment: list[Call] = []
    for call in table.calls:
        if call.zone == FORWARD:
            segment.append(call)
        elif call.zone == BACKWARD and segment:
            yield segment
            segment = []
    if segment:
        yield segment


def goes_over_the_same(repetition: Repetition, table: OperatorTable) -> bool:
    """Whether every turn works on the same tensors: a loop over time, samples or indices.

    The turns of a deep network's layers look alike as well, but each has weights of its own.
    """
    shared = False
    if any(len(given) > 1 for given in map(set, repetition.weights())):
        return False
    for given in repetition.reads():
        constant = len(set(given)) == 1
        if not constant and any(storage in table.parameters for storage in given):
            return False
        shared = shared or constant
    return shared


def touched(repetition: Repetition, storages: frozenset[int]) -> int:
    """How many of some storages the turns are given, each another."""
    return max(
        (len(set(given) & storages) for given in repetition.reads()),
        default=0,
    )
