"""Torch's profiler over one steady step: which operators ran, how often, on what, for how long.

The agent's thread decides when a window is due. Then, and only then, a hook on the optimizer is
there: it opens the profiler after one update and stops it after the next, in the training thread,
and for one further step looks which lines call torch (call_sites.py). At all other times a step
costs nothing. Such a step takes 1.2 to 1.5 times as long, and stopping takes about 8 us an event,
once more as long as a step of small operators: an "operators" event tells which steps these are,
and the signals leave them out.
"""

from __future__ import annotations

import sys
import time
from threading import get_ident
from typing import Any

from ..model.records import Event, Fact
from ..store.writer import ProcessWriter
from . import guard
from .call_sites import CallSites
from .compiled import has_compiled
from .describe.flags import accelerator_in_use
from .hooks_training import TrainingHooks
from .kineto import USED_BY_SCRIPT, Kineto, why_not_open
from .operator_events import reduce_tree
from .patching import hide_methods_from_compiler
from .recorder import Recorder

LEAST_STEPS, LEAST_S = 20, 2.0
"""The first window waits for so many steps and seconds: the warm-up is over then ..."""
STEPS_ANYHOW = 100
"""... or for so many steps, in a training of short ones."""
MOST_WINDOWS = 3
MOST_SHARE = 0.005
"""Part of the time trained so far that all windows may have cost before another is opened."""
SECONDS_BETWEEN = 10.0
LONGEST_STEP_S = 5.0
"""Longer steps hold too many events to be kept in memory."""
MOST_TENSORS = 5_000
"""Parameters that are updated. Beyond it there are some 100,000 events, which take seconds to read
(measured with 20,000: 2 s of CPU time to read, and stopping took as long as ten steps)."""
LONGEST_WINDOW = 10.0
"""In mean steps (and at least a second): a window that a validation has got into is given up."""
MOST_ATTEMPTS = 5

IDLE, ARMED, OPEN, LOOKING, READY = range(5)


class OperatorWindow:
    """Opens windows in the training thread and reads them on the agent's.

    Args:
        torch: The user's torch.
        hooks: Gives an errand to the training thread.
        recorder: Knows which thread trains.
        enabled: False with `--trace off`.
    """

    def __init__(
        self, torch: Any, hooks: TrainingHooks, recorder: Recorder, *, enabled: bool = True
    ) -> None:
        self._torch = torch
        self._hooks = hooks
        self._recorder = recorder
        self._reason = None if enabled else "it was switched off (--trace off)"
        self._reset()

    def _reset(self) -> None:
        self._state = IDLE
        self._handle: Any = None
        self._optimizer = 0  # id of the one whose update opened the window
        self._kineto = Kineto(self._torch, self._give_way)
        self._opened_ns = self._stopped_ns = self._began_ns = 0
        self._result: Any = None
        self._storages: tuple[list[int], list[int]] = ([], [])
        self._cost_ns = {"open": 0, "stop": 0, "read": 0}
        self._sites: CallSites | None = None
        self._patience_s = 0.0
        self._queued_ns = -1  # in the run queue: at the opening, then during the window
        self._spent_ns = 0
        self._windows = self._attempts = 0
        self._events: int | None = None
        self._given_up: tuple[int, int] | None = None
        self._checked = False

    def after_fork(self) -> None:
        """A forked child starts afresh; what the parent had open is its own."""
        self._reset()

    # On the agent's thread.

    @property
    def idle(self) -> bool:
        """Whether no window is open, or about to be."""
        return self._state == IDLE

    @property
    def events_per_step(self) -> int | None:
        """Of the last window; None before there was one."""
        return self._events

    def tick(self, writer: ProcessWriter, steps: int, *, may_open: bool = True) -> None:
        """Ten times a second: opens what is due, reads what is ready, gives up what takes long.

        Args:
            writer: Of this process.
            steps: Trained so far.
            may_open: False while the profiler is wanted for something else.
        """
        self._note_given_up(writer)
        now = time.perf_counter_ns()
        self._began_ns = self._began_ns or (now if steps else 0)
        trained_s = (now - self._began_ns) / 1e9
        if self._state == READY:
            self._read(writer)
        elif self._state == IDLE and self._handle is not None:
            self._hooks.ask(self._unregister)
        elif may_open and self._state == IDLE and self._is_due(steps, trained_s):
            self._state = ARMED
            self._attempts += 1
            self._patience_s = max(1.0, LONGEST_WINDOW * trained_s / steps)
            self._hooks.ask(self._register)
        elif self._state in (OPEN, LOOKING) and now - self._opened_ns > self._patience_s * 1e9:
            self._hooks.ask(self.abandon)

    def finish(self, writer: ProcessWriter) -> None:
        """At the end of the training: reads the last window, or says why there is none."""
        self._note_given_up(writer)
        if self._state == READY:
            self._read(writer)
        if not self._windows:
            reason = self._reason or "the training ended before a window of the profiler was due"
            writer.fact(Fact("operators", "status", time.perf_counter_ns(), {"reason": reason}))

    def _note_given_up(self, writer: ProcessWriter) -> None:
        """A window that came to nothing has held its step up all the same."""
        if self._given_up is not None:
            (start_ns, end_ns), self._given_up = self._given_up, None
            writer.event(Event("operators", start_ns, end_ns - start_ns, {"window": None}))

    def _is_due(self, steps: int, trained_s: float) -> bool:
        if self._reason is not None or self._windows >= MOST_WINDOWS or not steps:
            return False
        if not self._windows:
            enough = steps >= LEAST_STEPS and trained_s >= LEAST_S
            if not enough and steps < STEPS_ANYHOW:
                return False
            self._reason = self._why_not(trained_s / steps)
            return self._reason is None
        waited_s = (time.perf_counter_ns() - self._stopped_ns) / 1e9
        return waited_s >= SECONDS_BETWEEN and self._spent_ns / 1e9 <= MOST_SHARE * trained_s

    def _why_not(self, step_s: float) -> str | None:
        if self._attempts >= MOST_ATTEMPTS:
            return "no step was short and plain enough for a window of the profiler"
        if self._checked:
            return None
        self._checked = True
        torch = self._torch
        reason = why_not_open(torch, used=self._hooks.profiler_used)
        if reason is not None:
            return reason
        if accelerator_in_use(torch) is not None:
            return "operators are looked at on the CPU only, and this training uses an accelerator"
        if step_s > LONGEST_STEP_S:
            return "a step takes so long that its operators would not fit into memory"
        return "another rank is looked at" if _rank(torch) else None

    def _read(self, writer: ProcessWriter) -> None:
        """Reduces the events of a finished window and writes them."""
        start_ns = time.perf_counter_ns()
        result, self._result = self._result, None
        tree = result.experimental_event_tree()
        fact: dict[str, Any] = dict(reduce_tree(tree, *self._storages))
        events = len(tree)
        self._events = sum(row[2] for row in fact["kernels"])
        del tree, result
        now = time.perf_counter_ns()
        self._cost_ns["read"] = now - start_ns
        fact |= {
            "start_ns": self._opened_ns,
            "wall_ns": self._stopped_ns - self._opened_ns,
            "run_queue_ns": self._queued_ns,
            "cost_ns": dict(self._cost_ns),
            "events": events,
            "lines": self._sites.lines() if self._sites is not None else [],
        }
        writer.fact(Fact("operators", f"w{self._windows}", now, fact))
        data = {"window": f"w{self._windows}", "cost_ns": dict(self._cost_ns)}
        writer.event(Event("operators", self._opened_ns, now - self._opened_ns, data))
        self._windows += 1
        self._attempts = 0
        self._spent_ns += sum(self._cost_ns.values()) + (self._stopped_ns - self._opened_ns) // 3
        self._state = IDLE

    # In the training thread.

    def _register(self) -> None:
        """During a forward, when nobody walks the list of the optimizers' hooks."""
        hide_methods_from_compiler(OperatorWindow)
        optimizer = sys.modules["torch.optim.optimizer"]
        if self._handle is None:
            self._handle = optimizer.register_optimizer_step_post_hook(self._after_update)

    def _unregister(self) -> None:
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    def _after_update(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        if get_ident() == self._recorder.thread and not self._recorder.compiling():
            guard.attempt("operators", self._advance, optimizer)

    def _advance(self, optimizer: Any) -> None:
        if self._state == ARMED:
            if sum(len(group["params"]) for group in optimizer.param_groups) > MOST_TENSORS:
                self._reason = "the model has so many parameters that its operators take too long"
                self._state = IDLE
                return
            self._optimizer = id(optimizer)
            self._open()
        elif id(optimizer) != self._optimizer:
            return
        elif self._state == OPEN:
            self._stop()
            self._storages = _storages(optimizer)
            self._sites = CallSites()
            self._state = LOOKING if not has_compiled() and self._sites.start() else READY
        elif self._state == LOOKING and self._sites is not None:
            self._sites.stop()
            self._state = READY

    def _open(self) -> None:
        if not self._kineto.open():
            self._reason = USED_BY_SCRIPT
            self._state = IDLE
            return
        self._queued_ns = self._recorder.run_queue_ns()
        self._opened_ns = self._kineto.opened_ns
        self._cost_ns["open"] = self._kineto.open_cost_ns
        self._state = OPEN

    def _stop(self) -> None:
        self._stopped_ns = time.perf_counter_ns()
        queued_ns = self._recorder.run_queue_ns()
        known = queued_ns >= 0 and self._queued_ns >= 0
        self._queued_ns = queued_ns - self._queued_ns if known else -1
        self._result = self._kineto.stop()
        self._cost_ns["stop"] = self._kineto.stop_cost_ns

    def _give_way(self) -> None:
        self._reason = USED_BY_SCRIPT
        self.abandon()

    def abandon(self) -> None:
        """Stops what is open in the calling thread, and forgets it."""
        if self._kineto.opened_in == get_ident():
            self._stop()
            self._result = None
            self._given_up = self._opened_ns, time.perf_counter_ns()
        if self._sites is not None:
            self._sites.stop()
        if self._state in (OPEN, LOOKING):
            self._state = IDLE

    def uninstall(self) -> None:
        """Takes the hook back."""
        self.abandon()
        self._unregister()


def _storages(optimizer: Any) -> tuple[list[int], list[int]]:
    """Addresses of the parameters that an optimizer moves, and of their gradients."""
    parameters: list[int] = []
    gradients: list[int] = []
    for group in optimizer.param_groups:
        for parameter in group["params"]:
            parameters += _address(parameter)
            if parameter.grad is not None:
                gradients += _address(parameter.grad)
    return parameters, gradients


def _address(tensor: Any) -> list[int]:
    """Where a tensor's storage begins; nothing for kinds of tensors that have none."""
    try:
        return [int(tensor.untyped_storage().data_ptr())]
    except (NotImplementedError, RuntimeError):
        return []


def _rank(torch: Any) -> int:
    distributed: Any = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    return 0
