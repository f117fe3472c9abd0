"""Gradients that are filled with zeros or dropped: what the device does meanwhile."""

from __future__ import annotations

import re

import msgspec

from trainprof.profiler.traces.events import Kind, Trace
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.timeline import Timeline

MARK = re.compile(r"^Optimizer\.zero_grad#(?P<kind>\w+)\.zero_grad")
"""torch.optim annotates each call so whenever a profiler runs."""


class ZeroGrads(msgspec.Struct, frozen=True):
    """All calls in the window; lengths in ns.

    Attributes:
        kind: Class of one of the optimizers. host_ns: The host was inside.
        idle_ns: Of that, the busiest device did nothing; None without a device.
    """

    kind: str
    host_ns: int
    idle_ns: int | None


def zero_grads(trace: Trace, timeline: Timeline) -> ZeroGrads | None:
    """What zero_grad() cost; None where the window holds no call that is marked."""
    events, window = trace.events, timeline.window
    marked = (
        trace.named(MARK.search)
        & events.of(Kind.ANNOTATION, Kind.OPERATOR)
        & (events.start_ns < window.end_ns)
        & (events.end_ns > window.start_ns)
    )
    if not marked.any():
        return None
    spans = union(events.start_ns[marked], events.end_ns[marked])
    spans = spans.clipped(window.start_ns, window.end_ns)
    found = MARK.search(trace.names[int(events.name[marked][0])])
    return ZeroGrads(
        kind=found["kind"] if found else "",
        host_ns=spans.total,
        idle_ns=timeline.devices[0].gaps.common(spans).total if timeline.devices else None,
    )
