"""Pauses by Python's garbage collector on the training thread, and who asked for them.

Measured: 1 us per collection (most are of the youngest generation and take a few).
"""

from __future__ import annotations

import gc
from collections import deque
from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ..model.facts import Where
from ..model.records import Event
from . import marks as m
from .guard import attempt
from .location import caller_location
from .patching import Patches, hide_methods_from_compiler, like
from .recorder import Recorder

LONG_PAUSE_NS = 1_000_000
"""A pause from here on is an Event of its own; shorter ones are only counted."""

BRIEF_PAUSE_NS = 50_000
"""Shorter pauses stay with the phase they interrupt: young collections come every few steps, and
each would make a step of another shape. The summaries count them all."""
_GENERATIONS = 3
_MOST_EVENTS = 10_000


class GcCollector:
    """Hears of collections through `gc.callbacks`, of manual ones through `gc.collect`."""

    def __init__(self, recorder: Recorder, compiling: Callable[[], bool]) -> None:
        self._recorder = recorder
        self._compiling = compiling
        self._callback = self._collecting  # one object, to find it in the list again
        self._start_ns = 0  # of the collection under way on the training thread, else 0
        self._marked = False  # its first mark stands already
        self._manual = False
        self._where: Where | None = None
        self._counts = [0] * _GENERATIONS
        self._times_ns = [0] * _GENERATIONS
        self._manual_counts = [0] * _GENERATIONS
        self._taken = (self._counts[:], self._times_ns[:], self._manual_counts[:])
        self._since_ns = perf_counter_ns()
        self._events: deque[Event] = deque(maxlen=_MOST_EVENTS)

    def install(self, patches: Patches) -> None:
        """Adds the callback and patches `gc.collect`."""
        gc.callbacks.append(self._callback)
        patches.replace(gc, "collect", self._around_collect)

    def uninstall(self) -> None:
        """Removes the callback; the patch is undone by its owner."""
        if self._callback in gc.callbacks:
            gc.callbacks.remove(self._callback)

    def take_events(self) -> list[Event]:
        """Long pauses since the last call, and one summary if anything was collected.

        The summary's `count`, `total_ns` and `manual` hold one number per generation.
        """
        events = [self._events.popleft() for _ in range(len(self._events))]
        since_ns, self._since_ns = self._since_ns, perf_counter_ns()
        now = (self._counts[:], self._times_ns[:], self._manual_counts[:])
        before, self._taken = self._taken, now
        count, total_ns, manual = (
            [new - old for new, old in zip(*pair, strict=True)]
            for pair in zip(now, before, strict=True)
        )
        if any(count):
            data: dict[str, Any] = {"count": count, "total_ns": total_ns, "manual": manual}
            if any(manual) and self._where is not None:
                data["where"] = self._where
            events.append(Event("gc", since_ns, self._since_ns - since_ns, data))
        return events

    def _collecting(self, phase: str, info: dict[str, int]) -> None:
        recorder = self._recorder
        if phase == "start":
            if recorder.active():
                self._start_ns = perf_counter_ns()
                if recorder.detailed:
                    recorder.mark(m.GC, 0, info["generation"])
                    self._marked = True
        elif self._start_ns:
            end_ns = perf_counter_ns()
            generation = info["generation"]
            if self._marked:
                recorder.mark(m.GC_END, 0, generation)
            elif end_ns - self._start_ns >= BRIEF_PAUSE_NS:
                self._mark_afterwards(end_ns, generation)
            self._count(info, end_ns - self._start_ns)
            self._start_ns = 0
            self._marked = False

    def _mark_afterwards(self, end_ns: int, generation: int) -> None:
        """Leaves both marks of a pause, unless a finalizer has left some of its own meanwhile."""
        marks = self._recorder.marks
        if not marks or marks[-1][1] <= self._start_ns:
            marks.append((m.GC, self._start_ns, 0, generation))
            marks.append((m.GC_END, end_ns, 0, generation))

    def _count(self, info: dict[str, int], duration_ns: int) -> None:
        generation = min(info["generation"], _GENERATIONS - 1)
        self._counts[generation] += 1
        self._times_ns[generation] += duration_ns
        self._manual_counts[generation] += self._manual
        if duration_ns < LONG_PAUSE_NS:
            return
        data: dict[str, Any] = {
            "generation": generation,
            "collected": info["collected"],
            "manual": self._manual,
        }
        if self._manual and self._where is not None:
            data["where"] = self._where
        self._events.append(Event("gc", self._start_ns, duration_ns, data))

    def _around_collect(self, original: Callable[..., int]) -> Any:
        recorder = self._recorder
        compiling = self._compiling

        def collect(*args: Any, **kwargs: Any) -> int:
            if compiling() or not recorder.active():
                return original(*args, **kwargs)
            self._where = attempt("location", caller_location)
            self._manual = True
            try:
                return original(*args, **kwargs)
            finally:
                self._manual = False

        return like(original, collect)


def install(torch: Any, recorder: Recorder, patches: Patches) -> GcCollector:
    """Starts watching collections. Undone by `uninstall()` and `patches.undo()`."""
    hide_methods_from_compiler(GcCollector)
    collector = GcCollector(recorder, torch.compiler.is_dynamo_compiling)
    collector.install(patches)
    return collector
