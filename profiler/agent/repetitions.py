"""Steps that look like the two before them: taken many at a time, measured by their times.

Right after a cut the segmenter's state is what it was after the cut before, so a step of the same
shape needs no look at each of its marks. This is most steps of most runs.
"""

from __future__ import annotations

from itertools import islice
from typing import Any

from ..model.records import StepRecord
from .measure import Repetition, StepMeasure

Mark = tuple[Any, ...]

MOST_AT_ONCE = 64


class Repetitions:
    """Knows the shape that repeats, and takes the steps that have it.

    Args:
        measure: Measures them.
        seen: Counters of structural marks, shared with the segmenter, which counts all other steps.

    Attributes:
        shape: Of the last two steps, where they are alike.
    """

    def __init__(self, measure: StepMeasure, seen: dict[str, int]) -> None:
        self._measure = measure
        self._seen = seen
        self._seen_before = dict(seen)
        self._uncounted = 0  # steps that `_seen` does not hold yet
        self._last_shape: Repetition | None = None
        self.shape: Repetition | None = None

    def note(self, record: StepRecord, marks: list[Mark], cut: int) -> None:
        """Remembers the shape of a step just measured; two alike in a row make a repetition.

        Args:
            record: Of the step.
            marks: From its first to the one that showed that it had ended.
            cut: Position of the mark where it ended.
        """
        self.count_seen()
        before = self._seen_before
        seen = {name: times - before.get(name, 0) for name, times in self._seen.items()}
        self._seen_before = dict(self._seen)
        shape = self._measure.repetition(record, marks, cut, seen)
        self.shape = shape if shape is not None and shape == self._last_shape else None
        self._last_shape = shape

    def forget(self) -> None:
        """No step is like the last ones until two are alike again."""
        self.count_seen()
        self.shape = None

    def count_seen(self) -> None:
        """Adds to `seen` what the steps that were taken have held."""
        if self.shape is not None and self._uncounted:
            for name, times in self.shape.seen.items():
                self._seen[name] += times * self._uncounted
            self._uncounted = 0

    def take(
        self, held: list[Mark], arrived: list[Mark], position: int, index: int
    ) -> tuple[list[StepRecord], list[Mark], int]:
        """Takes all following steps of the shape.

        They are taken in portions that double, so that a loop whose steps change their shape all
        the time does not look at the same marks again and again.

        Args:
            held: Marks since the last cut.
            arrived: The marks after these begin at `position`.
            position: See `arrived`.
            index: Of the next step.

        Returns:
            The steps, the marks held after them, and how many of `arrived` are used up.
        """
        shape = self.shape
        assert shape is not None
        length, stride = shape.length, shape.cut
        steps: list[StepRecord] = []
        portion, next_mark = 1, position
        while True:
            missing = length - len(held)  # to a first step
            wanted = min((len(arrived) - next_mark - missing) // stride + 1, portion)
            if wanted < 1:
                break
            marks = held + arrived[next_mark : next_mark + missing + (wanted - 1) * stride]
            taken = self._measure_alike(shape, marks, wanted, index + len(steps), steps)
            held = marks[taken * stride : taken * stride + length - stride]
            next_mark += taken * stride
            if taken < portion:
                break
            portion = min(2 * portion, MOST_AT_ONCE)
        self._uncounted += len(steps)
        return steps, held, next_mark - position

    def _measure_alike(
        self,
        shape: Repetition,
        marks: list[Mark],
        wanted: int,
        index: int,
        steps: list[StepRecord],
    ) -> int:
        """Adds the steps at the front of `marks` while they have the shape; returns how many."""
        kinds, times, objects, extras = islice(zip(*marks, strict=False), 4)
        length, stride = shape.length, shape.cut
        for number in range(wanted):
            first = number * stride
            last = first + length
            if (
                kinds[first:last] != shape.kinds
                or objects[first:last] != shape.objects
                or len(marks[first + 1]) > 4
            ):
                return number
            steps.append(
                self._measure.repeat(
                    index + number,
                    times[first:last],
                    extras[first:last],
                    marks[first + stride],
                    shape,
                )
            )
        return wanted
