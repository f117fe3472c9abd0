"""The steps of the optimizer in a trace: what they cost, and in which form torch ran them.

A step costs the device the kernels that it launched, and the time in which the device ran dry while
the host was in it; on the CPU it costs its own length. All times in ns within the window.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Flags, Kind, Trace
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.kernels import Kernels
from trainprof.profiler.traces.operators import around, outermost
from trainprof.profiler.traces.timeline import Timeline

STEP = re.compile(r"Optimizer\.step#(?P<kind>\w+)\.step")
"""torch.optim marks each step so."""
FUSED = re.compile(r"aten::_fused_(adamw?|sgd|adagrad)_")
FOREACH = re.compile(r"aten::_foreach_")
SCALES = re.compile(r"aten::(_foreach_)?mul_?$")
"""What momentum needs, and plain SGD does not."""


class OptimizerSteps(msgspec.Struct, frozen=True):
    """All that touch the window.

    Attributes:
        kind: Class of the optimizer that they took longest. form: "forloop", "foreach" or "fused".
        scales: Something is multiplied in them, as by a momentum or a weight decay.
        host_ns: The host was in them. kernels_ns: Kernels that they launched ran. idle_ns: The
            device ran nothing while the host was in them; both 0 without a device.
    """

    kind: str
    form: str
    scales: bool
    host_ns: int
    kernels_ns: int
    idle_ns: int


def optimizer_steps(
    trace: Trace, timeline: Timeline, kernels: Kernels | None
) -> OptimizerSteps | None:
    """What the optimizer cost; None where no step of torch.optim is marked in the window."""
    events, window = trace.events, timeline.window
    marked = (
        trace.named(STEP.search)
        & events.of(Kind.ANNOTATION, Kind.OPERATOR)
        & (events.start_ns < window.end_ns)
        & (events.end_ns > window.start_ns)
    )
    steps = outermost(events, marked)
    if not len(steps):
        return None
    spans = union(events.start_ns[steps], events.end_ns[steps])
    spans = spans.clipped(window.start_ns, window.end_ns)
    lengths = events.end_ns[steps] - events.start_ns[steps]
    longest = np.bincount(events.name[steps], lengths).argmax()
    found = STEP.search(trace.names[int(longest)])
    device = timeline.devices[0] if timeline.devices else None
    inside = events.kind == Kind.OPERATOR

    def holds(wanted: Flags) -> bool:
        places = np.flatnonzero(inside & wanted)
        lanes, times = events.lane[places].astype(np.int64), events.start_ns[places]
        return bool((around(events, steps, lanes, times) != MISSING).any())

    form = "forloop"
    if holds(trace.named(FUSED.search)):
        form = "fused"
    elif holds(trace.named(FOREACH.search)):
        form = "foreach"
    return OptimizerSteps(
        kind=found["kind"] if found else "",
        form=form,
        scales=holds(trace.named(SCALES.search)),
        host_ns=spans.total,
        kernels_ns=_launched_ns(trace, steps, kernels),
        idle_ns=0 if device is None else device.gaps.common(spans).total,
    )


def _launched_ns(trace: Trace, steps: np.ndarray, kernels: Kernels | None) -> int:
    if kernels is None:
        return 0
    launches = kernels.operators
    step = around(trace.events, steps, launches.lane, launches.time_ns)
    return kernels.time_ns(step != MISSING)
