"""From the marks of one step to its `StepRecord`."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from types import CodeType, FunctionType
from typing import Any

from ..model import records
from ..model.phases import PHASES
from ..model.records import MicroBatch, StepRecord
from . import attribution
from . import marks as m

Mark = tuple[Any, ...]
Sums = Callable[[tuple[int, ...]], tuple[int, ...]]
"""From the times of the marks of a step to the time in each phase."""

MAX_PLANS = 64
"""Distinct mark sequences whose interval labels are remembered; most loops have one or two."""

_FLAGS = {
    m.END: records.EPOCH_BOUNDARY,
    m.ITERATOR: records.EPOCH_BOUNDARY,
    m.COMPILE: records.COMPILED,
    m.UPDATE: records.UPDATE_INFERRED,
}
_OF_LOADER = (m.END, m.ITERATOR)
_PLAIN_FORWARD = m.FORWARD_GRAD | m.FORWARD_TRAINING
_new_tuple = tuple.__new__
_ZEROES = (0,) * len(PHASES)


@dataclass(frozen=True, slots=True)
class Repetition:
    """The shape of a plain step: everything that repeats but the times.

    Attributes:
        kinds, objects: Of the marks the segmenter held when it cut, up to and with the mark that
            made it cut.
        cut: Position of the mark where the step ends.
        got: Position of the mark that delivered the batch, or -1.
        backwards: Positions of the marks that carry the loss.
        labels: Phase of each interval of the step; `inferred` and `flags` as in its record.
        sums: From the times of the marks to the time in each phase.
        seen: How many asks, forwards, backwards and updates one such step adds.
    """

    kinds: tuple[int, ...]
    objects: tuple[int, ...]
    cut: int
    got: int
    backwards: tuple[int, ...]
    sums: Sums
    labels: tuple[int, ...]
    inferred: int
    flags: int
    seen: dict[str, int]

    @property
    def length(self) -> int:
        """Marks from the beginning of the step to the one that shows it has ended."""
        return len(self.kinds)

    def begins_with(self, marks: Sequence[Mark]) -> bool:
        """Whether these are the first marks of such a step, without thread states in between."""
        kinds = self.kinds[: len(marks)]
        plain = len(marks) < 2 or len(marks[1]) == 4
        return plain and kinds == tuple([mark[0] for mark in marks])


def _sums_of(labels: Sequence[int]) -> Sums:
    """A function from the times of marks to the time in each phase, for fixed labels.

    Written out as one expression (`t[1]-t[0]`, ...): it runs for nearly every step of a training,
    in the user's process, and a loop over the intervals takes four times as long.
    """
    terms: list[list[str]] = [[] for _ in PHASES]
    for position, label in enumerate(labels):
        terms[label].append(f"t[{position + 1}]-t[{position}]")
    sums = ",".join("+".join(phase) or "0" for phase in terms)
    # Compiled but never evaluated: eval() of a text makes the interpreter forget that it is about
    # to end by an unhandled Ctrl-C, and its exit status would change.
    (code,) = (
        constant
        for constant in compile(f"lambda t: ({sums})", "<sums>", "eval").co_consts
        if isinstance(constant, CodeType)
    )
    return FunctionType(code, {})


class StepMeasure:
    """Measures steps; remembers the interval labels of mark sequences it has seen.

    Args:
        training_loaders, trained_modules: Shared with the segmenter, which adds to them.

    Attributes:
        losses, queue, validations: What else the marks of measured steps held; the agent empties
            them as it writes.
    """

    def __init__(self, training_loaders: set[int], trained_modules: set[int]) -> None:
        self._training_loaders = training_loaders
        self._trained_modules = trained_modules
        self._plans: dict[tuple[int, ...], tuple[list[int], int]] = {}
        self.losses: list[tuple[int, float]] = []
        self.queue: list[tuple[int, int, int, int | None]] = []  # step, loader, wait_ns, ready
        self.validations: list[tuple[int, int]] = []  # start_ns, duration_ns
        self._sums: dict[tuple[int, ...], Sums] = {}
        self._fetched_ahead = 0
        self._reading: tuple[int, int] | None = None  # CPU and run queue at the last boundary

    def step(self, index: int, marks: Sequence[Mark], end: Mark, flags: int) -> StepRecord:
        """The record of the step that begins with `marks[0]` and lasts until the mark `end`."""
        labels, inferred = self._labels(marks)
        phases = list(_ZEROES)
        before = start = marks[0][1]
        owner = labels[0]
        for mark, label in zip(marks, labels, strict=True):
            now = mark[1]
            phases[owner] += now - before
            before, owner = now, label
        phases[owner] += end[1] - before
        if not index and len(marks[0]) > 4:
            self._reading = marks[0][4:6]
        cpu_ns, run_queue_ns = self._between_boundaries(end)
        samples, batches, flags = self._contents(marks, flags)
        self._extras(index, marks)
        if phases[attribution.VALIDATION]:
            self._note_validations(marks, end)
        return StepRecord(
            index,
            start,
            end[1] - start,
            tuple(phases),
            cpu_ns,
            run_queue_ns,
            batches,
            samples,
            flags,
            _micro_batches(marks, labels, end[1]) if batches > 1 else (),
            *_states(marks, labels, end),
            inferred,
        )

    def repetition(
        self, record: StepRecord, marks: Sequence[Mark], cut: int, seen: dict[str, int]
    ) -> Repetition | None:
        """The shape of a step just measured, or None when it is not plain."""
        step = marks[:cut]
        if record.micro_batches > 1 or record.flags & ~records.NO_LOADER or len(step) < 2:
            return None
        key = self._plan_key(step)
        if key is None or key not in self._plans:
            return None
        labels, inferred = self._plans[key]
        batches = [i for i, mark in enumerate(step) if mark[0] == m.GOT]
        return Repetition(
            tuple([mark[0] for mark in marks]),
            tuple([mark[2] for mark in marks]),
            cut,
            batches[0] if batches else -1,
            tuple([i for i, mark in enumerate(step) if mark[0] == m.BACKWARD]),
            self._sums_of(key, labels),
            tuple(labels),
            inferred,
            record.flags,
            seen,
        )

    def _sums_of(self, key: tuple[int, ...], labels: Sequence[int]) -> Sums:
        """Compiled once per sequence of kinds: that takes as long as measuring ten steps."""
        sums = self._sums.get(key)
        if sums is None:
            sums = self._sums[key] = _sums_of(labels)
        return sums

    def repeat(
        self,
        index: int,
        times: tuple[int, ...],
        extras: tuple[Any, ...],
        end: Mark,
        shape: Repetition,
    ) -> StepRecord:
        """The record of a step of a known shape (see `step`), from its times and extras."""
        start = times[0]
        cpu_ns, run_queue_ns = self._between_boundaries(end) if len(end) > 4 else (None, None)
        samples = extras[shape.got] if shape.got >= 0 else -1
        for position in shape.backwards:
            if extras[position] is not None:
                self.losses.append((index, extras[position]))
        # Past the constructor, which takes three times as long as the tuple.
        return _new_tuple(
            StepRecord,
            (
                index,
                start,
                times[shape.cut] - start,
                shape.sums(times),
                cpu_ns,
                run_queue_ns,
                1,
                samples if samples >= 0 else None,
                shape.flags,
                (),
                None,
                None,
                shape.inferred,
            ),
        )

    def _labels(self, marks: Sequence[Mark]) -> tuple[list[int], int]:
        """Labels from the remembered plan of this sequence, where it is plain enough for one."""
        key = self._plan_key(marks)
        if key is None:
            return attribution.label_intervals(marks, self._training_loaders, self._trained_modules)
        plan = self._plans.get(key)
        if plan is None:
            plan = attribution.label_intervals(marks, self._training_loaders, self._trained_modules)
            if len(self._plans) < MAX_PLANS:
                self._plans[key] = plan
        return plan

    def _plan_key(self, marks: Sequence[Mark]) -> tuple[int, ...] | None:
        """The kinds of a plain training step; None when loaders or modules decide the labels."""
        loaders = self._training_loaders
        for mark in marks:
            kind = mark[0]
            if kind == m.FORWARD:
                if mark[3] & _PLAIN_FORWARD != _PLAIN_FORWARD:
                    return None
            elif (kind == m.ASK and mark[2] not in loaders) or kind == m.PHASE:
                return None
        return tuple([mark[0] for mark in marks])

    def _between_boundaries(self, end: Mark) -> tuple[int | None, int | None]:
        """CPU and run-queue time since the last boundary that carried a reading."""
        if len(end) < 6:
            return None, None
        before, self._reading = self._reading, end[4:6]
        if before is None:
            return None, None
        queue = None if end[5] < 0 or before[1] < 0 else end[5] - before[1]
        return end[4] - before[0], queue

    def _extras(self, index: int, marks: Sequence[Mark]) -> None:
        """Keeps the losses, and the queue depths of the asks that carry one."""
        for position, mark in enumerate(marks):
            if mark[0] == m.BACKWARD and mark[3] is not None:
                self.losses.append((index, mark[3]))
            elif mark[0] == m.ASK and len(mark) > 4:
                for answer in marks[position + 1 :]:
                    if answer[0] == m.GOT:
                        self.queue.append((index, mark[2], answer[1] - mark[1], mark[3]))
                        break

    def _note_validations(self, marks: Sequence[Mark], end: Mark) -> None:
        followers = [*marks[1:], end]
        for first, last in attribution.validation_spans(
            marks, self._training_loaders, self._trained_modules
        ):
            start = marks[first][1]
            self.validations.append((start, followers[last - 1][1] - start))

    def _contents(self, marks: Sequence[Mark], flags: int) -> tuple[int | None, int, int]:
        """Samples, micro-batches and flags."""
        batches = _Batches(self._training_loaders)
        groups = 0  # forwards that a backward followed
        asked = forward = optimizing = evaluated = False
        for mark in marks:
            kind = mark[0]
            if kind == m.GOT:
                batches.got(mark[2], mark[3])
            elif kind == m.ASK:
                asked = True
            elif kind == m.FORWARD:
                forward = True
                if not (mark[3] or 0) & m.FORWARD_GRAD:
                    batches.evaluated()
                else:
                    batches.used()
            elif kind == m.BACKWARD:
                # A closure counts once, however often its optimizer evaluates it.
                groups += forward and not (optimizing and evaluated)
                evaluated = evaluated or (forward and optimizing)
                forward = False
            elif kind == m.OPTIMIZER:
                optimizing, evaluated = True, False
            elif kind == m.OPTIMIZER_END:
                optimizing = False
            elif kind in _FLAGS and (kind not in _OF_LOADER or mark[2] in self._training_loaders):
                flags |= _FLAGS[kind]
        if not asked:
            flags |= records.NO_LOADER
        return batches.samples(), self._micro_batches(batches.count(), groups), flags

    def _micro_batches(self, received: int, groups: int) -> int:
        """Batches that backwards have used up: some loops fetch one ahead, some use one twice."""
        available = received + self._fetched_ahead
        used = min(groups, available) if available and groups else max(groups, 1)
        self._fetched_ahead = min(max(available - used, 0), 1)
        return max(used, 1)


class _Batches:
    """The training batches that arrived in a step, without those that were only evaluated."""

    def __init__(self, training_loaders: set[int]) -> None:
        self._training_loaders = training_loaders
        self._sizes: dict[int, list[int]] = {}
        self._last: list[int] | None = None
        self._dropped: tuple[list[int], int] | None = None

    def got(self, loader: int, size: int) -> None:
        """A batch arrived."""
        self._last = None
        self._dropped = None
        if loader in self._training_loaders:
            self._last = self._sizes.setdefault(loader, [])
            self._last.append(size)

    def evaluated(self) -> None:
        """A forward without gradients: the latest batch may be for that alone."""
        if self._last:
            self._dropped = (self._last, self._last.pop())
            self._last = None

    def used(self) -> None:
        """A forward with gradients: the latest batch is for training after all."""
        if self._dropped is not None:
            sizes, size = self._dropped
            sizes.append(size)
            self._dropped = None

    def count(self) -> int:
        """Batches of the loader that gave most."""
        return max((len(sizes) for sizes in self._sizes.values()), default=0)

    def samples(self) -> int | None:
        """Samples of the loader that gave most; None where a size is unknown."""
        sizes = [size for loader in self._sizes.values() for size in loader]
        if not sizes or min(sizes) < 0:
            return None
        return max(sum(loader) for loader in self._sizes.values())


def _states(
    marks: Sequence[Mark], labels: Sequence[int], end: Mark
) -> tuple[tuple[int, ...] | None, tuple[int, ...] | None]:
    """CPU and run-queue time per phase, when every mark of the step carries both."""
    if len(end) < 6 or len(marks[-1]) < 6 or any(len(mark) < 6 for mark in marks):
        return None, None
    cpu = list(_ZEROES)
    queue = list(_ZEROES)
    followers = [*marks[1:], end]
    for mark, label, after in zip(marks, labels, followers, strict=True):
        cpu[label] += after[4] - mark[4]
        queue[label] += after[5] - mark[5]
    if end[5] < 0:
        return tuple(cpu), None
    return tuple(cpu), tuple(queue)


def _micro_batches(
    marks: Sequence[Mark], labels: Sequence[int], end_ns: int
) -> tuple[MicroBatch, ...]:
    """One sub-record per backward group; each ends with its backward, the last with the step."""
    ends = [i for i, mark in enumerate(marks) if mark[0] == m.BACKWARD_END]
    groups: list[MicroBatch] = []
    first = 0
    for number, last in enumerate(ends):
        stop = last if number < len(ends) - 1 else len(marks)
        times = dict.fromkeys((attribution.DATA_WAIT, attribution.FORWARD, attribution.BACKWARD), 0)
        for position in range(first, stop):
            until = marks[position + 1][1] if position + 1 < len(marks) else end_ns
            if labels[position] in times:
                times[labels[position]] += until - marks[position][1]
        start = marks[first][1]
        finish = marks[stop][1] if stop < len(marks) else end_ns
        groups.append(MicroBatch(start, finish - start, *times.values()))
        first = stop
    return tuple(groups)
