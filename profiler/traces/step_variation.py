"""Steps that took longer than the others, and what took longer in them.

A step is an outlier where it exceeds the median by more than chance does (the median absolute
deviation, which a few long steps do not move) and by enough to matter.
"""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Flags, Kind, Trace, Whole
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.timeline import STEP, Timeline, on_host

LEAST_STEPS = 4
"""Of three, the median absolute deviation tells nothing."""
DEVIATIONS = 5.0
"""Standard deviations, of which one is 1.4826 median absolute deviations of normal noise."""
LEAST_EXCESS = 0.2
"""Of the median; steps of the same work differ by a tenth on a quiet machine."""
MOST_OF_IT = 0.5
"""Part of a step's excess by which something must have grown to be named for it."""


class StepVariation(msgspec.Struct, frozen=True):
    """The lengths of whole steps; times in ns.

    Attributes:
        lengths_ns: Of each, in order. deviation_ns: Median absolute deviation.
        outliers: Those that are too long. longest: Place of the longest of them, or MISSING.
        mark: What the profiler calls that step.
        grown: Name of what grew in it, of the host's events; None where nothing that is named grew.
        grown_ns: By how much, against its median in the other steps.
        parts: By part of the device's time, how much it grew.
    """

    lengths_ns: Whole
    median_ns: int
    deviation_ns: int
    outliers: Flags
    longest: int
    mark: str | None
    grown: str | None
    grown_ns: int
    parts: dict[str, int]

    @property
    def excess_ns(self) -> int:
        """By how much all outliers together exceed the median."""
        return int((self.lengths_ns[self.outliers] - self.median_ns).sum())


def step_variation(trace: Trace, timeline: Timeline) -> StepVariation | None:
    """The variation of the steps that the trace marks; None of fewer than `LEAST_STEPS`."""
    start, end = timeline.steps.start, timeline.steps.end
    if len(start) < LEAST_STEPS:
        return None
    lengths = end - start
    median = int(np.median(lengths))
    deviation = int(np.median(abs(lengths - median)))
    excess = lengths - median
    outliers = excess > max(DEVIATIONS * 1.4826 * deviation, LEAST_EXCESS * median)
    longest = int(lengths.argmax()) if outliers.any() else MISSING
    grown, grown_ns = None, 0
    parts: dict[str, int] = {}
    if longest != MISSING:
        grown, grown_ns = _grown(trace, start, end, longest, int(excess[longest]))
        parts = _parts(timeline, longest)
    return StepVariation(
        lengths_ns=lengths,
        median_ns=median,
        deviation_ns=deviation,
        outliers=outliers,
        longest=longest,
        mark=_mark(trace, start, longest),
        grown=grown,
        grown_ns=grown_ns,
        parts=parts,
    )


def _grown(
    trace: Trace, start: Whole, end: Whole, longest: int, excess_ns: int
) -> tuple[str | None, int]:
    """The shortest of all that grew by most of the excess: what is around it grew as well."""
    events = trace.events
    step = np.searchsorted(start, events.start_ns, "right") - 1
    inside = on_host(events) & ~trace.named(STEP.match) & (step >= 0)
    inside &= events.start_ns < end[np.maximum(step, 0)]
    own, step = events.where(inside), step[inside]
    lengths = np.minimum(own.end_ns, end[step]) - own.start_ns
    cells = own.name.astype(np.int64) * len(start) + step
    shape = (len(trace.names), len(start))
    spent = np.bincount(cells, lengths, shape[0] * shape[1]).reshape(shape)
    growth = spent[:, longest] - np.median(np.delete(spent, longest, axis=1), axis=1)
    best, best_ns, shortest = None, 0, 0
    for name in np.flatnonzero(growth >= MOST_OF_IT * excess_ns).tolist():
        called = own.name == name  # on several threads at once too, which counts once
        spent_ns = union(own.start_ns[called], own.end_ns[called]).within(start, end)
        grown_ns = int(spent_ns[longest] - np.median(np.delete(spent_ns, longest)))
        if grown_ns >= MOST_OF_IT * excess_ns and (best is None or spent_ns[longest] < shortest):
            best, best_ns, shortest = trace.names[name], grown_ns, int(spent_ns[longest])
    return best, best_ns


def _parts(timeline: Timeline, longest: int) -> dict[str, int]:
    """How much longer each part of the device's time is in that step than in the others."""
    if not timeline.devices:
        return {}
    start, end = timeline.steps.start, timeline.steps.end
    found = {}
    for part, times in timeline.devices[0].parts.items():
        spent = times.within(start, end)
        found[part] = int(spent[longest] - np.median(np.delete(spent, longest)))
    return found


def _mark(trace: Trace, start: Whole, longest: int) -> str | None:
    if longest == MISSING:
        return None
    events = trace.events
    marks = np.flatnonzero(
        (events.start_ns == start[longest]) & trace.named(STEP.match) & (events.kind != Kind.KERNEL)
    )
    return trace.names[events.name[marks[0]]] if len(marks) else None
