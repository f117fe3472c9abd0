"""A trace of a few whole steps: torch's profiler opened where one step begins, stopped at another.

All of this happens in the training thread, where a hook of ours stands anyway: at the ask for a
batch, or at the first forward after an update. Each step gets the annotation that torch's own
`profiler.step()` leaves (`ProfilerStep#120`). The event "window" says which steps this has touched.

A device is behind the host: what was launched before the profiler opened is not in the trace, nor
what has not ended when it stops. Torch's own layer synchronises for this; we never do. Instead it
is open for a step before the first that counts, and until the device has passed an event that was
left behind the last (asking that does not wait). Only steps that count are annotated, and shares
refer to these.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any

from . import guard
from . import marks as m
from .describe.flags import accelerator_in_use
from .kineto import USED_BY_SCRIPT, Kineto
from .patching import hide_methods_from_compiler
from .recorder import Recorder

MOST_S = 60.0
"""A window is not prolonged by a further step once it has lasted so long."""
MOST_MEAN_STEPS = 10.0
"""In mean steps for each step wanted (and at least 5 s): a validation, say, has come in between."""
LEAST_PATIENCE_S = 5.0
FAR_STEPS = 10
MOST_STEPS_BEHIND = 3
"""So many steps more the profiler stays open for a device that is behind; then it is stopped."""

IDLE, ARMED, OPEN, READY = range(4)


class TraceWindow:
    """One window at a time.

    Args:
        torch: The user's torch.
        recorder: Knows which thread trains.
        count: Steps so far; asked in the training thread.
        free: Whether nothing else of ours uses the profiler.

    Attributes:
        state: IDLE, ARMED (waits for its first step), OPEN or READY (stopped; to be saved).
        first: The step that it began with, once it is open. done: Whole steps in it.
        problem: Why the last one came to nothing; None while that is not so.
        start_ns, opened_ns, stopped_ns: When opening began, when it was open, when it was stopped.
        result: What torch recorded, once READY.
    """

    def __init__(
        self,
        torch: Any,
        recorder: Recorder,
        count: Callable[[], int],
        free: Callable[[], bool],
    ) -> None:
        self._torch = torch
        self._recorder = recorder
        self._count = count
        self._free = free
        hide_methods_from_compiler(TraceWindow)
        self.reset()

    def reset(self) -> None:
        """As if there had been no window (a forked child starts afresh)."""
        self._kineto = Kineto(self._torch, self._give_way)
        self._annotation: Any = None
        self._known = -1
        self._updates = 0
        self._wanted = self._behind = 0
        self._marker: Any = None
        self.state = IDLE
        self.first = self.done = 0
        self.problem: str | None = None
        self.start_ns = self.opened_ns = self.stopped_ns = 0
        self.result: Any = None

    # On the agent's thread.

    def arm(self, first: int, steps: int) -> None:
        """Has it opened where the step `first` begins, or a later one where that has passed."""
        self.first, self._wanted, self.done = first, steps, 0
        self._behind = 0
        self.problem = None
        self._known = -1
        self.state = ARMED
        self._recorder.watched = True
        self._recorder.close_quick_way()

    def disarm(self) -> None:
        """Takes the order back, unless it is open by now."""
        if self.state == ARMED:
            self._leave(IDLE)

    def is_overdue(self, step_s: float) -> bool:
        """Whether an open window has lasted far longer than its steps take."""
        patience_s = max(LEAST_PATIENCE_S, MOST_MEAN_STEPS * self._wanted * step_s)
        return self.state == OPEN and (time.perf_counter_ns() - self.opened_ns) / 1e9 > patience_s

    def _is_far(self) -> bool:
        """Whether the first step is so far off that steps need not be counted exactly."""
        updates = self._recorder.updates
        return self.state == ARMED and 0 < updates < self.first - FAR_STEPS

    @property
    def is_near(self) -> bool:
        """Whether the profiler is in use, or about to be."""
        return self.state != IDLE and not self._is_far()

    def take(self) -> Any:
        """What was recorded; the window is free for the next order then."""
        result, self.result = self.result, None
        self.state = IDLE
        return result

    @property
    def saw_steps(self) -> bool:
        """Whether a step was seen to end, or nobody has looked since it was armed."""
        return self._known != 0 or self._recorder.updates > 0

    @property
    def costs_ns(self) -> dict[str, int]:
        """What opening and stopping took of the training thread."""
        return {"open": self._kineto.open_cost_ns, "stop": self._kineto.stop_cost_ns}

    # In the training thread.

    def look(self, kind: int) -> None:
        """Called where a step may begin; it has begun if one more has ended since the last call.

        Args:
            kind: Of the mark that was left there, or is about to be.
        """
        if self.state not in (ARMED, OPEN) or get_ident() != self._recorder.thread:
            return
        if self._is_far():
            return
        count = self._count()
        begins = 0 <= self._known < count
        self._known = count
        if not begins:
            return
        # Without a loader the update under way is counted when the next one begins.
        number = count if kind in (m.ASK, m.STEP) else count + 1
        if self.state == OPEN:
            self._next_step(number)
            return
        devices = device_activities(self._torch)
        ahead = 1 if devices else 0
        if number >= self.first - ahead and self._free() and not self._capturing():
            self._open(number, devices)

    def _open(self, number: int, devices: list[Any]) -> None:
        start_ns = time.perf_counter_ns()
        if not self._kineto.open(devices):
            self.problem = USED_BY_SCRIPT
            self._leave(IDLE)
            return
        self.start_ns, self.opened_ns = start_ns, self._kineto.opened_ns
        self.first = number + 1 if devices else number
        self.state = OPEN
        for key, value in _metadata(self._torch).items():
            self._torch.autograd._add_metadata_json(key, json.dumps(value))
        if not devices:
            self._annotate(number)

    def _annotate(self, number: int) -> None:
        self._updates = self._recorder.updates
        profiler = self._torch.autograd.profiler
        self._annotation = profiler.record_function(f"ProfilerStep#{number}")
        self._annotation.__enter__()

    def _next_step(self, number: int) -> None:
        if self._annotation is not None:
            self._close_step()
            lasted_s = (time.perf_counter_ns() - self.opened_ns) / 1e9
            if self.done < self._wanted and lasted_s <= MOST_S:
                self._annotate(number)
                return
            self._marker = self._leave_marker()
        elif not self.done:
            self.first = number
            self._annotate(number)
            return
        if self._marker is None or self._marker.query() or self._behind >= MOST_STEPS_BEHIND:
            self._stop(READY)
        self._behind += 1

    def _leave_marker(self) -> Any:
        """An event on the device, behind all that was launched so far; None without a device."""
        name = accelerator_in_use(self._torch)
        if name not in _ACTIVITY_OF or not device_activities(self._torch) or self._capturing():
            return None
        marker = getattr(self._torch, name).Event()
        marker.record()
        return marker

    def _close_step(self) -> None:
        self._annotation.__exit__(None, None, None)
        self._annotation = None
        self.done += 1

    def _stop(self, state: int) -> None:
        self.stopped_ns = time.perf_counter_ns()
        self._annotation = self._marker = None
        result = self._kineto.stop()
        self.result = result if state == READY else None
        self._leave(state)

    def _leave(self, state: int) -> None:
        self._recorder.watched = False
        self.state = state

    def abandon(self, problem: str) -> None:
        """Stops what is open in the calling thread, and forgets it."""
        if self.state == OPEN and self._kineto.opened_in == get_ident():
            self.problem = problem
            self._stop(IDLE)

    def end(self) -> None:
        """The training ends: a last step that is whole counts, part of one does not."""
        if self.state == OPEN and self._kineto.opened_in == get_ident():
            recorder = self._recorder
            if self._annotation is None and self.done:
                self._stop(READY)
            elif self._annotation is not None and (
                recorder.updates > self._updates and not recorder.backwards
            ):
                self._close_step()
                self._stop(READY)
            else:
                self.abandon("the training ended inside the window")
        self.disarm()

    def _give_way(self) -> None:
        self.abandon(USED_BY_SCRIPT)

    def _capturing(self) -> bool:
        """Whether a CUDA graph is being captured: no moment to open a profiler."""
        cuda = getattr(self._torch, "cuda", None)
        if cuda is None or not cuda.is_initialized():
            return False
        return bool(guard.attempt("stream capture", cuda.is_current_stream_capturing))


_ACTIVITY_OF = {"cuda": "CUDA", "xpu": "XPU"}


def device_activities(torch: Any) -> list[Any]:
    """What Kineto is asked to record of the accelerator in use (ROCm's devices are CUDA's)."""
    name = _ACTIVITY_OF.get(accelerator_in_use(torch) or "")
    kinds = torch._C._profiler.ProfilerActivity
    wanted = getattr(kinds, name, None) if name is not None else None
    return [wanted] if wanted in torch.autograd._supported_activities() else []


def _metadata(torch: Any) -> dict[str, Any]:
    """What torch's own layer writes beside the events of one rank of several."""
    distributed: Any = getattr(torch, "distributed", None)
    if distributed is None or not distributed.is_available() or not distributed.is_initialized():
        return {}
    return {
        "distributedInfo": {
            "backend": distributed.get_backend(),
            "rank": distributed.get_rank(),
            "world_size": distributed.get_world_size(),
        }
    }
