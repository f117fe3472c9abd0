"""What the thread that trains did in the window: of a training on the CPU, the timeline itself."""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Events, Kind, Trace
from trainprof.profiler.traces.intervals import Intervals, union
from trainprof.profiler.traces.timeline import (
    ALLOCATES,
    DATA_WAIT,
    STEP,
    SYNCHRONISES,
    Window,
)

OPTIMIZER = re.compile(r"Optimizer\.step#")
ZERO_GRAD = re.compile(r"Optimizer\.zero_grad#")
BACKWARD = re.compile(r"autograd::engine::evaluate_function")
COLLECTIVE = re.compile(r"(?:gloo|mpi|ucc|nccl|c10d):", re.IGNORECASE)
"""Of the host: torch.distributed's own annotations, by backend."""
ACTIVITIES = (
    "data wait",
    "optimizer",
    "zero grad",
    "backward",
    "synchronisation",
    "allocator",
    "operators",
    "collective wait",
    "work of other threads",
    "other work",
)
"""In this order where several hold at once. The last three are what happened between the thread's
own events: a collective of the training was under way, another thread ran operators (autograd's,
whose events had no names before 2021), or Python ran."""

MOST_CANDIDATES = 16
"""Threads that are looked at for the one that trains, where nothing marks it."""
WORK = ("optimizer", "zero grad", "backward", "operators")
"""Of them, those in which a training on the CPU gets on."""


class TrainingThread(msgspec.Struct, frozen=True):
    """The thread that runs the steps; lengths in ns within the window.

    Attributes:
        lane: Place in `Trace.lanes`.
        activities: By `ACTIVITIES`; they sum to the window.
        waits, other: When it waited for batches, and when nothing else holds.
        operators: Operators that it called by itself. operator_median_ns: Half of them are shorter.
    """

    lane: int
    activities: dict[str, int]
    waits: Intervals
    other: Intervals
    operators: int
    operator_median_ns: int | None

    def share(self, activity: str) -> float:
        """Part of the window that an activity takes."""
        return self.activities[activity] / max(sum(self.activities.values()), 1)


def training_thread(trace: Trace, window: Window) -> TrainingThread | None:
    """The thread that trains and its activities; None where no thread of the host did anything."""
    lane = find_lane(trace)
    if lane is None:
        return None
    events = trace.events
    own = events.lane == lane
    kind = events.kind
    # Before 2022 the steps and waits were written as operators.
    marks = trace.named(_marks)
    operators = own & (kind == Kind.OPERATOR) & ~marks
    annotated = (kind == Kind.OPERATOR) | (kind == Kind.ANNOTATION)
    calls = own & (kind == Kind.RUNTIME)
    chosen = (
        own & annotated & trace.named(DATA_WAIT.search),
        own & annotated & trace.named(OPTIMIZER.search),
        own & annotated & trace.named(ZERO_GRAD.search),
        annotated & trace.named(BACKWARD.search),
        calls & trace.named(SYNCHRONISES.search),
        calls & trace.named(ALLOCATES.search),
        operators | calls,
        (annotated & trace.named(COLLECTIVE.match)) | (kind == Kind.COLLECTIVE),
        ~own & (kind == Kind.OPERATOR) & ~marks,
    )
    left = Intervals(np.array([window.start_ns]), np.array([window.end_ns]))
    activities = {}
    waits = left
    for activity, those in zip(ACTIVITIES, chosen, strict=False):
        work = union(events.start_ns[those], events.end_ns[those])
        held = left.common(work)
        activities[activity] = held.total
        waits = held if activity == ACTIVITIES[0] else waits
        left = left.minus(work)
    activities[ACTIVITIES[-1]] = left.total
    lengths = _top_level_lengths(trace, operators, window)
    return TrainingThread(
        lane=lane,
        activities=activities,
        waits=waits,
        other=left,
        operators=len(lengths),
        operator_median_ns=int(np.median(lengths)) if len(lengths) else None,
    )


def _marks(name: str) -> bool:
    return bool(STEP.match(name) or DATA_WAIT.search(name))


def find_lane(trace: Trace) -> int | None:
    """The lane of the steps, else of the optimizer, else with the longest time in operators."""
    events = trace.events
    annotated = (events.kind == Kind.ANNOTATION) | (events.kind == Kind.OPERATOR)
    for wanted in (STEP.match, OPTIMIZER.search):
        lanes = events.lane[annotated & trace.named(wanted)]
        if len(lanes):
            return int(np.bincount(lanes).argmax())
    operators = trace.of_kind(Kind.OPERATOR)
    if not len(operators):
        return None
    lengths = np.bincount(operators.lane, weights=operators.end_ns - operators.start_ns)
    candidates = np.argsort(lengths)[::-1][:MOST_CANDIDATES]
    return max((int(one) for one in candidates), key=lambda one: _busy_ns(operators, one))


def _busy_ns(operators: Events, lane: int) -> int:
    mine = operators.where(operators.lane == lane)
    return union(mine.start_ns, mine.end_ns).total


def _top_level_lengths(trace: Trace, operators: np.ndarray, window: Window) -> np.ndarray:
    """Lengths of operators that no other operator of the thread has called."""
    own = trace.events.where(operators)
    if not len(own):
        return np.zeros(0, np.int64)
    reached = np.maximum.accumulate(own.end_ns)
    fresh = np.append(True, own.start_ns[1:] >= reached[:-1])
    inside = fresh & (own.start_ns >= window.start_ns) & (own.start_ns < window.end_ns)
    return own.end_ns[inside] - own.start_ns[inside]
