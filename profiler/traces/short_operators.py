"""Operators so short that calling them costs more than what they compute."""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Events, Kind, Trace
from trainprof.profiler.traces.intervals import Intervals, union
from trainprof.profiler.traces.nesting import innermost, outermost
from trainprof.profiler.traces.timeline import Window
from trainprof.profiler.traces.training_thread import OPTIMIZER, TrainingThread

SHORT_NS = 20_000
"""Most of a shorter operator is what every operator costs."""
SHORT_PAUSE_NS = 200_000
"""Longer pauses between two operators are something else: data, output, another thread."""


class ShortOperators(msgspec.Struct, frozen=True):
    """Of the training thread in the window, without loader and optimizer; lengths in ns.

    Attributes:
        count: Operators that it called itself. median_ns: Half of them are shorter.
        short_ns: In operators, inner ones too, whose name takes less than `SHORT_NS` by itself on
            the average. pauses_ns: In short pauses, while nothing else is known of.
    """

    count: int
    median_ns: int | None
    short_ns: int
    pauses_ns: int


def short_operators(trace: Trace, thread: TrainingThread, window: Window) -> ShortOperators:
    """What short operators and the pauses between operators take."""
    events = trace.events
    own = events.where((events.kind == Kind.OPERATOR) & (events.lane == thread.lane))
    apart = _apart(trace, thread)
    counted = (own.start_ns >= window.start_ns) & (own.start_ns < window.end_ns)
    counted &= apart.within(own.start_ns, own.start_ns + 1) == 0
    own = own.where(counted)
    itself = outermost(own, own.start_ns) == np.arange(len(own))
    lengths = (own.end_ns - own.start_ns)[itself]
    pauses_ns = thread.other.end - thread.other.start
    return ShortOperators(
        count=len(lengths),
        median_ns=int(np.median(lengths)) if len(lengths) else None,
        short_ns=_short(trace, own),
        pauses_ns=int(pauses_ns[pauses_ns <= SHORT_PAUSE_NS].sum()),
    )


def _apart(trace: Trace, thread: TrainingThread) -> Intervals:
    """The optimizer's steps and the waits for batches."""
    events = trace.events
    updates = (events.lane == thread.lane) & trace.named(OPTIMIZER.search)
    return union(
        np.concatenate([events.start_ns[updates], thread.waits.start]),
        np.concatenate([events.end_ns[updates], thread.waits.end]),
    )


def _short(trace: Trace, own: Events) -> int:
    borders = np.unique(np.concatenate([own.start_ns, own.end_ns]))
    place = innermost(own, borders[:-1])
    held = place != MISSING
    spent = np.bincount(
        own.name[place[held]], weights=np.diff(borders)[held], minlength=len(trace.names)
    )
    calls = np.bincount(own.name, minlength=len(trace.names))
    return int(spent[spent < SHORT_NS * calls].sum())
