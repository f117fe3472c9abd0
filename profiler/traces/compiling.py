"""Code that is compiled or loaded while the training runs, and what the device does meanwhile."""

from __future__ import annotations

import re

import msgspec
import numpy as np

from trainprof.profiler.traces.events import Trace, distinct
from trainprof.profiler.traces.intervals import union
from trainprof.profiler.traces.timeline import COMPILES, Window, on_host

FRAME = re.compile(r"compile_id=(?P<frame>!?[\d/]*?\d+)/(?P<attempt>\d+)")
"""How dynamo numbers: of a frame the first compilation is 0, later ones are recompilations."""
WHOLE = re.compile(r"^entire_frame_compile$|^_compile\.compile_inner")
LOADS = re.compile(r"^(cu|cuda|hip)(Module|Library)Load")


class Compiling(msgspec.Struct, frozen=True):
    """What was compiled in a window.

    Attributes:
        host_ns: Some thread compiled or loaded code. frames: Compilations of a frame by dynamo.
        recompiled: Of these, of frames compiled before; None where torch does not number them.
        loads: Calls that load code into the driver.
        longest: Name of what took longest.
    """

    host_ns: int
    frames: int
    recompiled: int | None
    loads: int
    longest: str | None


def compiling(trace: Trace, window: Window) -> Compiling:
    """What of the window went into compiling; nothing is no error."""
    events = trace.events
    inside = (events.end_ns > window.start_ns) & (events.start_ns < window.end_ns)
    compiles = inside & on_host(events) & trace.named(COMPILES.search)
    own = events.where(compiles)
    times = union(own.start_ns, own.end_ns).clipped(window.start_ns, window.end_ns)
    numbered = events.where(inside & trace.named(FRAME.search))
    found = {FRAME.search(trace.names[place]) for place in distinct(numbered.name).tolist()}
    attempts = {(one["frame"], int(one["attempt"])) for one in found if one is not None}
    frames = own.where(np.isin(own.name, _places(trace, WHOLE)))
    length = own.end_ns - own.start_ns
    return Compiling(
        host_ns=times.total,
        frames=len(union(frames.start_ns, frames.end_ns)),
        recompiled=sum(attempt > 0 for _, attempt in attempts) if attempts else None,
        loads=int(np.isin(own.name, _places(trace, LOADS)).sum()),
        longest=trace.names[own.name[length.argmax()]] if len(own) else None,
    )


def _places(trace: Trace, wanted: re.Pattern[str]) -> list[int]:
    return [place for place, name in enumerate(trace.names) if wanted.search(name)]
