"""Which function of Python a thread was in, of traces with stacks (`with_stack=True`)."""

from __future__ import annotations

import re
import sys

import msgspec
import numpy as np

from trainprof.profiler.traces.events import MISSING, Kind, Trace
from trainprof.profiler.traces.intervals import Intervals
from trainprof.profiler.traces.nesting import innermost

FRAME = re.compile(r"(?P<file>[^<>]+)\((?P<line>\d+)\): (?P<function>.+)", re.DOTALL)
"""As torch.profiler names a frame; built-in functions and modules are named otherwise."""
MACHINERY = ("torch/", "numpy/", "importlib", "multiprocessing/", "concurrent/")
"""Beginnings of files that a time is not charged to: it goes to the line that called them."""


class Frame(msgspec.Struct, frozen=True):
    """A function of the script, or of a library that is not torch's.

    Attributes:
        file: As the trace has it, relative to where Python looks for modules. line: Of its head.
        function: Its name. spent_ns: Time in it and in what it calls of torch and Python's own.
    """

    file: str
    line: int
    function: str
    spent_ns: int


def dearest_frame(trace: Trace, lane: int, during: Intervals) -> Frame | None:
    """The function that most of some intervals was spent in; None of a trace without stacks.

    Args:
        trace: Any.
        lane: Of the thread, a place in `Trace.lanes`.
        during: What counts.
    """
    known = [own_function(name) for name in trace.names]
    counts = np.array([one is not None for one in known], bool)
    events = trace.events
    chosen = (events.kind == Kind.PYTHON) & (events.lane == lane)
    if not chosen.any() or not len(during):
        return None
    frames = events.where(chosen & counts[events.name])
    borders = np.unique(np.concatenate([frames.start_ns, frames.end_ns, during.start, during.end]))
    inside = during.within(borders[:-1], borders[1:])
    borders, inside = borders[:-1][inside > 0], inside[inside > 0]
    place = innermost(frames, borders)
    held = place != MISSING
    if not held.any():
        return None
    spent = np.bincount(frames.name[place[held]], weights=inside[held], minlength=len(known))
    name = int(spent.argmax())
    found = known[name]
    assert found is not None
    return Frame(*found, spent_ns=int(spent[name]))


def own_function(name: str) -> tuple[str, int, str] | None:
    """File, line and function; None where the time belongs to whoever called it."""
    found = FRAME.fullmatch(name)
    if found is None:
        return None
    file = found["file"].removeprefix("./")
    module = file.partition("/")[0].removesuffix(".py")
    if file.startswith(MACHINERY) or module in sys.stdlib_module_names:
        return None
    return file, int(found["line"]), found["function"]
