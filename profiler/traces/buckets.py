"""The buckets in which DistributedDataParallel averages gradients, and what waits for them.

Its reducer launches an all-reduce for each bucket from the backward, which runs on a thread of
autograd's where there is a device. An all-reduce that the script calls itself (of a loss, of a
gradient's norm) is launched on the thread that called the forward, and is no bucket.
"""

from __future__ import annotations

import msgspec
import numpy as np

from trainprof.profiler.traces.collectives import FORWARD, REDUCES, UPDATE, Collectives
from trainprof.profiler.traces.events import MISSING, Kind, Trace
from trainprof.profiler.traces.timeline import Timeline

OWN_EXCHANGE = "SyncBatchNorm"
"""Layers that all-reduce in the backward as well."""


class Buckets(msgspec.Struct, frozen=True):
    """Of the backwards in the window after which gradients were sent.

    Attributes:
        backwards: How many there are.
        count: Buckets of one of them (the median).
        gradient_bytes: What these send (the median); None where the trace does not tell.
        exposed_ns: For how long of the window one was sent and nothing was computed.
    """

    backwards: int
    count: float
    gradient_bytes: float | None
    exposed_ns: int


def gradient_buckets(trace: Trace, timeline: Timeline, found: Collectives) -> Buckets | None:
    """All-reduces launched between a forward of DDP and the update, on another thread than it.

    None where the trace names no such forwards or updates, or no launches of theirs, and where
    other layers all-reduce in the backward too.

    Args:
        trace: Of one rank.
        timeline: Of it.
        found: Its collectives.
    """
    events, window = trace.events, timeline.window
    host = (events.kind != Kind.DEVICE_ANNOTATION) & (events.kind != Kind.KERNEL)
    forwards = np.flatnonzero(host & trace.named(FORWARD.__eq__))
    updates = events.start_ns[host & trace.named(lambda name: name.startswith(UPDATE))]
    others = any(name.startswith(OWN_EXCHANGE) for name in trace.names)
    if found.on_host or others or not len(forwards) or not len(updates):
        return None
    begun = events.start_ns[forwards]
    at = found.launched_ns
    forward = np.searchsorted(begun, at, "right") - 1
    update = np.searchsorted(updates, at, "right") - 1
    last = np.maximum(forward, 0)
    since = np.where(update < 0, np.iinfo(np.int64).min, updates[np.maximum(update, 0)])
    chosen = (np.array(found.kinds) == REDUCES) & (at != MISSING) & (forward >= 0)
    chosen &= (begun[last] > since) & (found.launched_lane != events.lane[forwards][last])
    chosen &= (begun[last] >= window.start_ns) & (at < window.end_ns)
    if not chosen.any():
        return None
    _, backward, count = np.unique(forward[chosen], return_inverse=True, return_counts=True)
    size = found.size[chosen]
    told = bool((size != MISSING).all())
    sums = np.bincount(backward, size)
    return Buckets(
        backwards=len(count),
        count=float(np.median(count)),
        gradient_bytes=float(np.median(sums)) if told else None,
        exposed_ns=found.exposed_ns_of(chosen, window),
    )
