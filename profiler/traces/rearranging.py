"""Copies that only bring a tensor into another order in memory, as operators ask for them.

`aten::contiguous` and `aten::reshape` do nothing where a view will do: a copy or a kernel below one
of them means that the elements lay in another order. Copies by `clone()` and `copy_()` that the
training calls itself are left out, as they may as well keep the order.
"""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Flags, Kind, Trace
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.kernels import Kernels
from trainprof.profiler.traces.operators import around, outermost
from trainprof.profiler.traces.timeline import Window
from trainprof.profiler.traces.training_thread import TrainingThread

REARRANGING = frozenset({"aten::contiguous", "aten::reshape"})
"""Operators that copy only where elements lie in another order than the one that is asked for."""


class Rearranging(msgspec.Struct, frozen=True):
    """Such copies in the window.

    Attributes:
        time_ns: In which any of them ran. count: Of them.
        operator: That the training called, and that most of the time is of; None without copies.
    """

    time_ns: int
    count: int
    operator: str | None


def rearranging_kernels(trace: Trace, kernels: Kernels) -> Rearranging:
    """The kernels that such operators launched, on the busiest device."""
    found = kernels.operators
    asked = around(trace.events, outermost(trace.events, _asking(trace)), found.lane, found.time_ns)
    chosen = asked != MISSING
    lengths = kernels.events.end_ns - kernels.events.start_ns
    called = chosen & (kernels.operator_names != MISSING)
    spent = np.bincount(kernels.operator_names[called], lengths[called])
    dearest = trace.names[int(spent.argmax())] if len(spent) else None
    return Rearranging(kernels.time_ns(chosen), int(chosen.sum()), dearest)


def rearranging_copies(trace: Trace, thread: TrainingThread, window: Window) -> Rearranging:
    """The copies inside of such operators, of a training on the CPU."""
    events = trace.events
    own = (events.kind == Kind.OPERATOR) & (events.lane == thread.lane)
    own &= (events.start_ns < window.end_ns) & (events.end_ns > window.start_ns)
    copies = np.flatnonzero(own & trace.named("aten::copy_".__eq__))
    lane, start = events.lane[copies].astype(np.int64), events.start_ns[copies]
    asked = around(events, outermost(events, own & _asking(trace)), lane, start)
    copies = copies[asked != MISSING]
    start, end = events.start_ns[copies], events.end_ns[copies]
    top = around(
        events, outermost(events, own & trace.named(_computes)), lane[asked != MISSING], start
    )
    spent = np.bincount(events.name[top], end - start)
    return Rearranging(
        time_ns=union(start, end).clipped(window.start_ns, window.end_ns).total,
        count=len(copies),
        operator=trace.names[int(spent.argmax())] if len(spent) else None,
    )


def _asking(trace: Trace) -> Flags:
    asking: Flags = (trace.events.kind == Kind.OPERATOR) & trace.named(REARRANGING.__contains__)
    return asking


def _computes(name: str) -> bool:
    return "::" in name and "autograd::" not in name
