"""Several devices of one process: how many of them compute at a time."""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Kind, Trace
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.timeline import COMMUNICATION, Timeline

DATA_PARALLEL = re.compile(r"^DataParallel\.forward$")
"""What torch.nn.DataParallel calls its forward; DistributedDataParallel has a longer name."""
LEAST_WORK = 0.05
"""Part of the busiest device's time, from which a device counts as one that computes."""


class SeveralDevices(msgspec.Struct, frozen=True):
    """The devices of one trace in its window.

    Attributes:
        count: That compute. concurrency: How many of them compute at a time, while any does.
        any_ns: For how long any does. data_parallel: `nn.DataParallel` was seen.
    """

    count: int
    concurrency: float
    any_ns: int
    data_parallel: bool


def several_devices(trace: Trace, timeline: Timeline) -> SeveralDevices | None:
    """None where fewer than two devices compute."""
    window = timeline.window
    most = max((one.compute_ns for one in timeline.devices), default=0)
    work = [one for one in timeline.devices if one.compute_ns > LEAST_WORK * most]
    if len(work) < 2:
        return None
    events = trace.events
    numbers = [one.device for one in work]
    kernels = events.where(
        (events.kind == Kind.KERNEL)
        & ~trace.named(COMMUNICATION.search)
        & np.isin(events.device, numbers)
    )
    busy = union(kernels.start_ns, kernels.end_ns).clipped(window.start_ns, window.end_ns)
    return SeveralDevices(
        count=len(work),
        concurrency=sum(one.compute_ns for one in work) / max(busy.total, 1),
        any_ns=busy.total,
        data_parallel=any(DATA_PARALLEL.match(name) for name in trace.names),
    )
