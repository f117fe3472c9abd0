"""What FSDP exchanges: gathered parameters, those gathered again for the backward, gradients.

Torch names what FSDP does: `FSDP::all_gather (layers.0)` of `fully_shard`, and
`FullyShardedDataParallel._pre_forward` of the class. Only collectives that are launched inside of
these count: an all-gather beside a reduce-scatter may as well be tensor parallelism's.
"""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.collectives import Collectives
from trainprof.profiler.traces.events import MISSING, Kind, Trace
from trainprof.profiler.traces.operators import around, outermost
from trainprof.profiler.traces.timeline import Timeline

FSDP = re.compile(r"^(FSDP::|FullyShardedDataParallel\._)")
"""The class's `forward` holds all of the model's, and is not among them."""
FOR_BACKWARD = re.compile(r"^[\w:.]*backward")
"""The pass stands before the name of the module."""


class Sharding(msgspec.Struct, frozen=True):
    """In the window.

    Attributes:
        gathers: All-gathers of parameters. again: Of these, those for the backward.
        reductions: Reduce-scatters of gradients.
        gathered_bytes: What all gathers give, counted as nccl-tests does; None where the trace does
            not tell of each.
        exposed_ns: For how long parameters were gathered and nothing was computed.
    """

    gathers: int
    again: int
    reductions: int
    gathered_bytes: int | None
    exposed_ns: int


def names_sharding(trace: Trace) -> bool:
    """Whether FSDP is named in a trace."""
    return any(FSDP.match(name) for name in trace.names)


def sharding(trace: Trace, timeline: Timeline, found: Collectives) -> Sharding | None:
    """What FSDP exchanges on the busiest device; None where nothing is known to be of it.

    Args:
        trace: Of one rank.
        timeline: Of it.
        found: Its collectives, of a device.
    """
    events = trace.events
    named = (events.kind != Kind.DEVICE_ANNOTATION) & trace.named(FSDP.match)
    passes = outermost(events, named)
    place = around(events, passes, found.launched_lane, found.launched_ns)
    kinds = np.array(found.kinds)
    gathers = (kinds == "all-gather") & (place != MISSING)
    if not gathers.any():
        return None
    backward = trace.named(FOR_BACKWARD.match)[place[gathers]]
    size = found.size[gathers]
    told = bool((size != MISSING).all())
    return Sharding(
        gathers=int(gathers.sum()),
        again=int(backward.sum()),
        reductions=int(((kinds == "reduce-scatter") & (place != MISSING)).sum()),
        gathered_bytes=int(size.sum()) if told else None,
        exposed_ns=found.exposed_ns_of(gathers, timeline.window),
    )
