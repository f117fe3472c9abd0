"""When a trace of a few steps is taken: as told at the start, on request, or by itself.

On the agent's thread. A request (a file in the run folder) is taken by the first rank, which turns
it into an order that names a step: far enough ahead that the other ranks see it in time. So all
ranks trace the same steps and need not talk to each other. Each answers in a file of its own.
"""

from __future__ import annotations

import contextlib
import os
import sys
import time
from dataclasses import dataclass
from typing import Any

from ..model.records import Event
from ..store.layout import TRACES_FOLDER
from ..store.trace_files import (
    DEFAULT_STEPS,
    MOST_STEPS,
    answer_path,
    order_numbers,
    order_path,
    read_object,
    request_path,
    requested_steps,
    step_range,
    trace_path,
    write_object,
)
from ..store.writer import ProcessWriter
from . import guard
from .describe.flags import accelerator_in_use
from .hooks_training import TrainingHooks
from .kineto import save_trace, why_not_open
from .trace_size import MOST_EVENTS, Load, fitting_steps
from .trace_window import ARMED, IDLE, OPEN, READY, TraceWindow, device_activities

LEAD_S = 1.5
"""So long before its first step an order stands in the folder: the other ranks look four times a
second, and a network file system shows a new file about a second late."""
NEAR_S = 1.0
"""So long before its first step the hooks begin to watch for it."""
SOON = 1_000
"""Steps from the beginning, of which the agent's first looks may miss the right one."""
STEADY_STEPS, STEADY_S = 20, 5.0
"""A window by itself waits for so many steps and seconds; there is one in a run."""
LEAST_FREE_BYTES = 64_000_000
MOST_ATTEMPTS = 3
FORKED = (
    "a process was forked inside the window (workers for a new epoch, say); ask for fewer steps"
)
BETWEEN = "something long came in between each time (a validation, say)"
UNSEEN = "no update of the weights was seen, so that no step is known to begin"
OVER = "the training ended before the window's first step"


@dataclass(frozen=True, slots=True)
class Trainer:
    """Who this process is.

    Attributes:
        folder: Name of its folder. key: What the ranks of one training share.
        rank, size: Of several; None for one alone.
    """

    folder: str
    key: str
    rank: int | None
    size: int | None


@dataclass(slots=True)
class Order:
    """One window that is wanted.

    Attributes:
        number: Of its file; 0 for the one that was told at the start.
        first: Step that it begins with. steps: How many. why: request, steps or auto.
        attempts: How often it has come to nothing.
    """

    number: int
    first: int
    steps: int
    why: str
    attempts: int = 0


class TraceRequests:
    """Takes requests, and has the window opened.

    Args:
        torch: The user's torch.
        hooks: Gives errands to the training thread.
        run: The run folder.
        window: Opens and stops.
        asked: Of `--trace`: "auto", "off", or steps.
    """

    def __init__(
        self, torch: Any, hooks: TrainingHooks, run: str, window: TraceWindow, asked: str
    ) -> None:
        self._torch = torch
        self._hooks = hooks
        self._run = run
        self._window = window
        self._asked = asked
        self._reset()

    def _reset(self) -> None:
        self._began_ns = self._began_at = 0
        self._step_s = 0.0  # outside of windows; 0 before it is known
        self._next = 0  # number of the next order; 0 before the first look
        self._order: Order | None = None
        self._trainer: Trainer | None = None
        self._told = step_range(self._asked)
        self._auto = self._asked == "auto"

    def after_fork(self) -> None:
        """A forked child starts afresh; what the parent had open is its own."""
        self._window.reset()
        self._reset()

    def begin(self, trainer: Trainer) -> None:
        """The training begins: steps that were told and come soon are waited for from here on."""
        self._trainer = trainer
        if self._told is not None and self._told[0] <= SOON:
            self._order, self._told = self._as_told(*self._told), None
            reason = self._why_not(self._order)
            if reason is not None:
                self._refuse(reason)
            else:
                self._window.arm(self._order.first, self._order.steps)
                self._answer("armed", self._order)

    @property
    def busy(self) -> bool:
        """Whether the profiler is in use, or about to be."""
        return self._window.is_near

    def tick(
        self, writer: ProcessWriter, trainer: Trainer, steps: int, load: Load | None = None
    ) -> None:
        """A few times a second.

        Args:
            writer: Of this process.
            trainer: Who it is.
            steps: Trained so far.
            load: What a step does.
        """
        if not steps:
            return
        self._trainer = trainer
        now = time.perf_counter_ns()
        if not self._began_ns:
            self._began_ns, self._began_at = now, steps
        trained_s = (now - self._began_ns) / 1e9
        if steps > self._began_at and self._window.state != OPEN:
            self._step_s = trained_s / (steps - self._began_at)
        self._note_given_up(writer)
        if not guard.enabled("trace window"):
            self._give_up("the window has failed; the report says how")
        elif self._window.state == READY:
            self._save(writer)
        elif self._step_s and self._window.is_overdue(self._step_s):
            self._hooks.ask(self._abandon)
        elif self._window.state == IDLE and self._step_s:
            self._follow(steps, trained_s, load)
        elif not self._window.is_near and self._is_asked():
            self._hooks.ask(self._step_aside)

    def finish(self, writer: ProcessWriter) -> None:
        """At the end of the training: saves the last window, or says why there is none."""
        self._note_given_up(writer)
        if self._window.state == READY:
            self._save(writer)
        if self._order is not None:
            self._refuse(self._window.problem or (OVER if self._window.saw_steps else UNSEEN))
        elif self._told is not None and self._trainer is not None:
            self._order = Order(0, *self._told, "steps")
            self._refuse(OVER)

    def abandon(self) -> None:
        """Before a fork, in the training thread: the window comes once more later on."""
        self._window.abandon(FORKED)

    def end(self) -> None:
        """The training ends, in the training thread."""
        self._window.end()

    def _abandon(self) -> None:
        self._window.abandon(BETWEEN)

    def _is_asked(self) -> bool:
        order = order_path(self._run, self._next or 1)
        return os.path.exists(order) or os.path.exists(request_path(self._run))

    def _step_aside(self) -> None:
        """In the training thread: steps told at the start are far off, and a request is there."""
        order = self._order
        if order is not None and order.number == 0 and not self._window.is_near:
            self._window.disarm()
            self._order, self._told = None, (order.first, order.steps)

    # Which window comes next.

    def _follow(self, steps: int, trained_s: float, load: Load | None) -> None:
        order = self._order
        if order is not None and self._window.problem is not None:
            self._after_problem(order)
        elif order is None:
            self._order = self._next_order(steps, trained_s, load)
        elif self._is_near(order.first, steps):
            self._window.arm(order.first, order.steps)
            self._answer("armed", order)

    def _is_near(self, first: int, steps: int) -> bool:
        return steps >= first - 2 - NEAR_S / self._step_s

    def _after_problem(self, order: Order) -> None:
        problem, self._window.problem = str(self._window.problem), None
        order.attempts += 1
        if order.attempts >= MOST_ATTEMPTS or self._why_not(order) is not None:
            self._refuse(problem)
        else:  # all ranks go on with the same step
            order.first = max(self._window.first + self._window.done, order.first) + 1

    def _next_order(self, steps: int, trained_s: float, load: Load | None) -> Order | None:
        trainer = self._trainer
        assert trainer is not None
        order = self._adopted(trainer, steps)
        if order is None and trainer.rank in (None, 0):
            order = self._requested(trainer, steps, load)
            if order is None and self._is_due(steps, trained_s):
                self._auto = False
                order = self._decide(trainer, steps, self._fitting(DEFAULT_STEPS, load), "auto")
        if order is None and self._told is not None and self._is_near(self._told[0], steps):
            order, self._told = self._as_told(*self._told, load), None
        if order is not None:
            self._order = order
            reason = self._why_not(order)
            if reason is not None:
                self._refuse(reason)
                return None
        return order

    def _adopted(self, trainer: Trainer, steps: int) -> Order | None:
        """The next order in the folder, if it is for this training and not over."""
        if not self._next:
            numbers = order_numbers(self._run)
            self._next = 1 if trainer.rank else numbers[-1] + 1 if numbers else 1
        found = read_object(order_path(self._run, self._next))
        if found is None:
            return None
        self._next += 1
        first, count = found.get("first"), found.get("steps")
        if found.get("training") != trainer.key or not isinstance(first, int) or first < 0:
            return None
        if not isinstance(count, int) or not 1 <= count <= MOST_STEPS:
            return None
        order = Order(self._next - 1, first, count, str(found.get("why")))
        if first > steps:
            return order
        self._order = order
        self._refuse("this rank saw the order when its first step had begun")
        return None

    def _requested(self, trainer: Trainer, steps: int, load: Load | None) -> Order | None:
        path = request_path(self._run)
        if not os.path.exists(path):
            return None
        taken = f"{path}.{os.getpid()}"
        try:
            os.rename(path, taken)
            with open(taken, encoding="utf-8", errors="replace") as file:
                text = file.read(1000)
            os.unlink(taken)
        except OSError:
            return None  # another training of this run has taken it
        wanted = requested_steps(text)
        order = self._decide(
            trainer, steps, self._fitting(wanted or DEFAULT_STEPS, load), "request"
        )
        self._order = order
        if wanted is None:
            self._refuse(f"the request asks for no number of steps from 1 to {MOST_STEPS}")
        return self._order

    def _fitting(self, steps: int, load: Load | None = None) -> int:
        return fitting_steps(steps, self._tensors(), load or Load())

    def _tensors(self) -> int:
        modules = self._hooks.modules
        roots = [modules.thing(number) for number in range(len(modules))]
        return sum(1 for one in roots if one is not None for _ in one.parameters())

    def _decide(self, trainer: Trainer, steps: int, wanted: int, why: str) -> Order:
        """Writes the order down, for the other ranks and for whoever waits for it."""
        ahead = 1 + (LEAD_S / self._step_s if (trainer.size or 1) > 1 else 0.0)
        order = Order(self._next, steps + 1 + int(ahead), wanted, why)
        self._next += 1
        content = {
            "training": trainer.key,
            "first": order.first if wanted else -1,
            "steps": wanted,
            "why": why,
            "ranks": trainer.size or 1,
            "step_s": self._step_s,
        }
        with contextlib.suppress(OSError):
            write_object(order_path(self._run, order.number), content)
        return order

    def _is_due(self, steps: int, trained_s: float) -> bool:
        """Whether a window by itself is: on an accelerator, whose work nothing else shows."""
        steady = steps >= STEADY_STEPS and trained_s >= STEADY_S
        return self._auto and steady and bool(device_activities(self._torch))

    def _as_told(self, first: int, steps: int, load: Load | None = None) -> Order:
        return Order(0, first, self._fitting(steps, load), "steps")

    def _why_not(self, order: Order) -> str | None:
        if not order.steps:
            return f"one step would be a trace of more than {MOST_EVENTS:,} events"
        if self._asked == "off":
            return "it was switched off (--trace off)"
        reason = why_not_open(self._torch, used=self._hooks.profiler_used)
        if reason is not None:
            return reason
        if accelerator_in_use(self._torch) == "cuda" and _uses_graphs():
            return "torch.compile uses CUDA graphs, which do not outlive the end of the profiler"
        return self._why_no_room()

    def _why_no_room(self) -> str | None:
        try:
            os.makedirs(os.path.join(self._run, TRACES_FOLDER), exist_ok=True)
            disk = os.statvfs(self._run)
        except OSError as error:
            return f"the run folder cannot be written ({error.strerror})"
        if disk.f_bavail * disk.f_frsize < LEAST_FREE_BYTES:
            return "the disk is full: less than 64 MB are free where the run folder lies"
        return None

    # What became of it.

    def _note_given_up(self, writer: ProcessWriter) -> None:
        """The steps of a window that came to nothing were held up all the same."""
        window = self._window
        if window.problem is not None and window.state == IDLE and window.start_ns:
            lasted_ns = window.stopped_ns + window.costs_ns["stop"] - window.start_ns
            writer.event(Event("window", window.start_ns, lasted_ns, {"problem": window.problem}))
            window.start_ns = 0

    def _save(self, writer: ProcessWriter) -> None:
        window, order, trainer = self._window, self._order, self._trainer
        first, steps, start_ns = window.first, window.done, window.start_ns
        lasted_ns = window.stopped_ns + window.costs_ns["stop"] - start_ns
        costs_ns = window.costs_ns
        result = window.take()
        if order is None or trainer is None:
            return
        path = trace_path(self._run, trainer.folder, first)
        from_ns = time.perf_counter_ns()
        size = save_trace(result, path)
        del result
        now = time.perf_counter_ns()
        costs_ns["save"] = now - from_ns
        data = {"number": order.number, "first": first, "steps": steps, "why": order.why}
        data |= {"bytes": size, "cost_ns": costs_ns}
        writer.event(Event("window", start_ns, lasted_ns, data))
        writer.event(Event("window", from_ns, now - from_ns, {"number": order.number}))
        if size is None:
            self._refuse("the trace could not be written whole; the disk may be full")
            return
        self._answer("written", order, first=first, steps=steps, file=os.path.basename(path))
        self._order = None

    def _give_up(self, reason: str) -> None:
        if self._window.state == OPEN:
            self._hooks.ask(self._abandon)
        elif self._window.state == ARMED:
            self._window.disarm()
        elif self._order is not None:
            self._refuse(reason)

    def _refuse(self, reason: str) -> None:
        if self._order is not None:
            self._answer("refused", self._order, reason=reason)
        self._order = None
        self._window.problem = None

    def _answer(self, state: str, order: Order, **more: Any) -> None:
        trainer = self._trainer
        if trainer is None:
            return
        content = {"state": state, "why": order.why, "rank": trainer.rank, "pid": os.getpid()}
        content |= {"first": order.first, "steps": order.steps, **more}
        with contextlib.suppress(OSError):
            write_object(answer_path(self._run, trainer.folder, order.number), content)


def _uses_graphs() -> bool:
    """Whether torch.compile was told to use CUDA graphs; asked only where it is loaded."""
    config: Any = sys.modules.get("torch._inductor.config")
    return bool(getattr(getattr(config, "triton", None), "cudagraphs", False))
