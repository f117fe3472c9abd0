"""The sampled stacks of a training, gathered by phase: who spends the time in it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from functools import cache

import numpy as np

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.stacks import Frame, Stack
from trainprof.rules.signals.loader_workers import loader_workers
from trainprof.rules.signals.training import Training
from trainprof.rules.stack_phases import (
    fetch_depth,
    is_users,
    library_call,
    phase_of,
    short_name,
)

LEAST_LOOKS = 20
"""Looks at a phase before anything is said about it: then a half is a half give or take a fifth."""

HOT_SHARE = 0.5
"""The innermost function of the user's that holds so much of the phase is named, or the largest."""

MOST_STACKS = 300
"""Of a phase, in a report; the rest is in stacks.jsonl."""

WORKER = Frame("[DataLoader worker]", "", 0)
"""Stands at the bottom of a worker's stack among those of the data wait."""


@dataclass(slots=True)
class PhaseStacks:
    """Stacks of one phase with the nanoseconds sampled in each.

    Attributes:
        depths: Frames of each stack that lead up to the phase.
        looks: How often a thread was looked at.
        of_workers: They are the workers' stacks while the training thread waited.
    """

    times_ns: dict[Stack, int] = field(default_factory=lambda: defaultdict(int))
    depths: dict[Stack, int] = field(default_factory=dict)
    looks: float = 0.0
    of_workers: bool = False

    def add(self, stack: Stack, depth: int, duration_ns: int, looks: float) -> None:
        """Adds a sample."""
        self.times_ns[stack] += duration_ns
        self.depths[stack] = depth
        self.looks += looks

    @property
    def total_ns(self) -> int:
        """Time sampled in the phase."""
        return sum(self.times_ns.values())


@dataclass(frozen=True, slots=True)
class HotSpot:
    """Where most of a phase is spent.

    Attributes:
        where: A line of the user's own source: the one most often seen in that function.
        share: Part of the phase's sampled time inside that function.
        call: The library function that it calls most of that time, as "numpy's sort"; or None.
        looks: At the phase.
        of_workers: As of `PhaseStacks`.
    """

    where: Location
    share: float
    call: str | None
    looks: int
    of_workers: bool


def gather(training: Training) -> dict[str, PhaseStacks]:
    """Stacks of the training thread by phase; under "workers" those of workers during waits."""
    start_ns, end_ns = _span(training)
    info = training.trainer.info
    own = [
        sample
        for sample in training.run.stacks.samples
        if sample.pid == info.pid
        and sample.thread == info.thread
        and start_ns <= sample.at_ns < end_ns
    ]
    period_ns = _period_ns(training)
    phases: dict[str, PhaseStacks] = {}
    waits: list[tuple[int, int]] = []
    validations = training.events("validation")
    inside = _Spans([(event.start_ns, event.start_ns + event.duration_ns) for event in validations])
    known = cache(phase_of)
    for sample in own:
        phase, depth = known(sample.stack)
        if inside.holds(sample.at_ns):
            phase, depth = "validation", 0
        elif phase == "data_wait":
            waits.append((sample.at_ns, sample.at_ns + sample.duration_ns))
        looks = max(sample.duration_ns / period_ns, 1.0)
        phases.setdefault(phase, PhaseStacks()).add(sample.stack, depth, sample.duration_ns, looks)
    workers = _of_workers(training, waits, period_ns)
    if workers.times_ns:
        phases["workers"] = workers
    return phases


def hot_spot(phase: PhaseStacks) -> HotSpot | None:
    """The function of the user's own in which most of the phase is spent.

    None with too few looks, or where the phase holds nothing of the user's.
    """
    total_ns = phase.total_ns
    if phase.looks < LEAST_LOOKS or not total_ns:
        return None
    inside: dict[tuple[str, str], int] = defaultdict(int)
    depth: dict[tuple[str, str], int] = defaultdict(int)
    for stack, time_ns in phase.times_ns.items():
        for place, key in _functions(stack, phase.depths[stack]):
            inside[key] += time_ns
            depth[key] = max(depth[key], place)
    if not inside:
        return None
    hot = [key for key, time_ns in inside.items() if time_ns >= HOT_SHARE * total_ns]
    key = max(hot, key=lambda one: depth[one]) if hot else max(inside, key=lambda one: inside[one])
    line, function, call = _inside(phase, key, inside[key])
    where = Location(key[0], line, function)
    share = inside[key] / total_ns
    return HotSpot(where, share, call, round(phase.looks), phase.of_workers)


def collapsed_stacks(training: Training) -> dict[str, dict[str, int]]:
    """Per phase the stacks as lines of a flame graph's input, with the milliseconds sampled."""
    collapsed: dict[str, dict[str, int]] = {}
    for name, phase in gather(training).items():
        place = collapsed.setdefault("data_wait" if name == "workers" else name, {})
        ordered = sorted(phase.times_ns.items(), key=lambda item: -item[1])
        for stack, time_ns in ordered[:MOST_STACKS]:
            line = collapse(stack)
            place[line] = place.get(line, 0) + max(round(time_ns / 1e6), 1)
    return collapsed


def collapse(stack: Stack) -> str:
    """One line of a flame graph's input: frames from the outside in, `function (file:line)`."""
    return ";".join(_folded(frame) for frame in stack)


def _folded(frame: Frame) -> str:
    place = f" ({frame.file}:{frame.line})" if frame.file else ""
    return f"{frame.function}{place}".replace(";", ",")


def _functions(stack: Stack, depth: int) -> Iterator[tuple[int, tuple[str, str]]]:
    """The user's functions inside the phase, each once: (place, (file, function))."""
    seen = set()
    for place in range(depth, len(stack)):
        frame = stack[place]
        key = (frame.file, frame.function)
        if key not in seen and is_users(frame):
            seen.add(key)
            yield place, key


def _inside(phase: PhaseStacks, key: tuple[str, str], time_ns: int) -> tuple[int, str, str | None]:
    """The line of a function that most time goes to, its short name, and what it calls there."""
    lines: dict[int, int] = defaultdict(int)
    calls: dict[str, int] = defaultdict(int)
    function = key[1]
    for stack, spent_ns in phase.times_ns.items():
        places = [
            place
            for place in range(phase.depths[stack], len(stack))
            if (stack[place].file, stack[place].function) == key
        ]
        if not places:
            continue
        place = places[-1]
        function = short_name(stack[place])
        lines[stack[place].line] += spent_ns
        call = library_call(stack[place + 1]) if place + 1 < len(stack) else None
        if call is not None:
            calls[call] += spent_ns
    most = max(calls, key=lambda one: calls[one], default=None)
    if most is not None and calls[most] < HOT_SHARE * time_ns:
        most = None
    return max(lines, key=lambda one: lines[one]), function, most


def _of_workers(
    training: Training, waits: Sequence[tuple[int, int]], period_ns: int
) -> PhaseStacks:
    """What the loader's workers did while the training thread waited for them."""
    found = PhaseStacks(of_workers=True)
    spans = _Spans(waits)
    threads = {(worker.info.pid, worker.info.thread) for worker in loader_workers(training)}
    if not waits or not threads:
        return found
    for sample in training.run.stacks.samples:
        if (sample.pid, sample.thread) not in threads:
            continue
        shared_ns = spans.overlap(sample.at_ns, sample.at_ns + sample.duration_ns)
        if shared_ns:
            depth = fetch_depth(sample.stack)
            stack = (WORKER, *sample.stack)
            place = len(stack) if depth is None else depth + 1
            found.add(stack, place, shared_ns, shared_ns / period_ns)
    return found


class _Spans:
    """Spans of time that do not overlap, to be asked quickly."""

    def __init__(self, spans: Sequence[tuple[int, int]]) -> None:
        ordered = sorted(spans)
        self._starts = np.array([start for start, _ in ordered], dtype=np.int64)
        self._ends = np.array([end for _, end in ordered], dtype=np.int64)

    def holds(self, at_ns: int) -> bool:
        place = int(np.searchsorted(self._starts, at_ns, side="right")) - 1
        return place >= 0 and at_ns < int(self._ends[place])

    def overlap(self, start_ns: int, end_ns: int) -> int:
        """Nanoseconds of [start, end) inside the spans."""
        first = max(int(np.searchsorted(self._starts, start_ns, side="right")) - 1, 0)
        stop = int(np.searchsorted(self._starts, end_ns, side="left"))
        starts = np.maximum(self._starts[first:stop], start_ns)
        ends = np.minimum(self._ends[first:stop], end_ns)
        return int(np.maximum(ends - starts, 0).sum())


def _span(training: Training) -> tuple[int, int]:
    starts, walls = training.columns["start_ns"], training.columns["wall_ns"]
    if not len(starts):
        return 0, 0
    return int(starts[0]), int(starts[-1] + walls[-1])


def _period_ns(training: Training) -> int:
    return max((window.period_ns for window in training.run.stacks.windows), default=1) or 1
