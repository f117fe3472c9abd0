"""What the signals of a trace are measured from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from trainprof.profiler.traces.arrivals import Arrivals
from trainprof.profiler.traces.events import Trace
from trainprof.profiler.traces.launches import Launched, launched
from trainprof.profiler.traces.timeline import Timeline


@dataclass(frozen=True)
class Traced:
    """One file that was read and cut, and what it has in common with those of other ranks.

    Attributes:
        trace: What the file holds.
        timeline: What devices and host did in its window.
        together: What the ranks tell together; None for one alone, or without common collectives.
        windows_ns: Length of the window of each rank that was read.
    """

    trace: Trace
    timeline: Timeline
    together: Arrivals | None = None
    windows_ns: Mapping[int, int] = field(default_factory=dict)

    @cached_property
    def launched(self) -> Launched:
        """The work of devices with the calls that launched it."""
        return launched(self.trace)
