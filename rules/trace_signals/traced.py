"""What the signals of a trace are measured from."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property

from msgspec.structs import replace

from trainprof.profiler.traces.arrivals import Arrivals
from trainprof.profiler.traces.events import Kind, Trace
from trainprof.profiler.traces.kernels import Kernels, read_kernels
from trainprof.profiler.traces.launches import Launched, LaunchQueue, launch_queue, launched
from trainprof.profiler.traces.synchronisations import Synchronisations, synchronisations
from trainprof.profiler.traces.timeline import Timeline
from trainprof.profiler.traces.training_thread import TrainingThread, training_thread
from trainprof.profiler.traces.what_if import Outcome, Replayed, WhatIf, what_if


@dataclass(frozen=True)
class Traced:
    """One file that was read and cut, and what it has in common with those of other ranks.

    Attributes:
        trace: What the file holds.
        timeline: What devices and host did in its window.
        together: What the ranks tell together; None for one alone, or without common collectives.
        windows_ns: Length of the window of each rank that was read.
        balanced: What the rank that waits longest would gain if all came together.
        replayed: Replays changes, wherever that is done.
    """

    trace: Trace
    timeline: Timeline
    together: Arrivals | None = None
    windows_ns: Mapping[int, int] = field(default_factory=dict)
    balanced: Outcome | None = None
    replayed: Replayed = what_if

    @cached_property
    def launched(self) -> Launched:
        """The work of devices with the calls that launched it."""
        return launched(self.trace)

    @cached_property
    def what_if(self) -> WhatIf | None:
        """The critical path and simulated changes; None where there is nothing to replay."""
        found = self.replayed(self.trace, self.timeline)
        if found is None or self.balanced is None:
            return found
        return replace(found, outcomes={**found.outcomes, self.balanced.change: self.balanced})

    @cached_property
    def thread(self) -> TrainingThread | None:
        """The thread that trains; None where the host did nothing that was recorded."""
        return training_thread(self.trace, self.timeline.window)

    @cached_property
    def on_cpu(self) -> bool:
        """Whether the training ran on the CPU: the machine has no device that Kineto knows of."""
        known = self.trace.header.get("deviceProperties")
        calls = (self.trace.events.kind == Kind.RUNTIME).any()
        return known == [] and not calls and not self.timeline.devices

    @cached_property
    def kernels(self) -> Kernels | None:
        """Those of the busiest device, by family; None where there are none."""
        return read_kernels(self.trace, self.timeline, self.launched)

    @cached_property
    def queue(self) -> LaunchQueue | None:
        """How work reached the busiest device; None where there is none."""
        devices = self.timeline.devices
        return launch_queue(self.launched, devices[0], self.timeline.window) if devices else None

    @cached_property
    def synchronisations(self) -> Synchronisations | None:
        """Where the host waited for it; None where there is no device, or no launch is known."""
        queue = self.queue
        if queue is None or not len(queue.known.work):
            return None
        return synchronisations(self.trace, self.launched, queue)
