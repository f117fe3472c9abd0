"""Torch's profiler over one steady step: which operators ran, how often, on what, for how long.

The agent's thread decides when a window is due. Then, and only then, a hook on the optimizer is
there: it opens the profiler after one update and stops it after the next, in the training thread,
and for one further step looks which lines call torch (call_sites.py). At all other times a step
costs nothing. Such a step takes 1.2 to 1.5 times as long, and stopping takes about 8 us an event,
once more as long as a step of small operators: an "operators" event tells which steps these are,
and the signals leave them out.

Without torch's own Python layer (`torch.profiler.profile`), which needs 40 us an event to read.
"""

from __future__ import annotations

import os
import re
import sys
import time
from collections.abc import Callable
from threading import get_ident
from typing import Any

from ..model.records import Event, Fact
from ..store.writer import ProcessWriter
from . import guard
from .call_sites import CallSites
from .compiled import has_compiled
from .describe.flags import accelerator_in_use
from .hooks_training import TrainingHooks
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
LOG_LEVEL = "KINETO_LOG_LEVEL"
_SILENT = "6"  # above Kineto's highest level: it prints two lines to stderr at each window
_PROFILING = re.compile(r"torch\.profiler|autograd\.profiler|import profiler|emit_(?:nvtx|itt)\b")

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
        self._opened_in = 0  # thread
        self._opened_ns = self._stopped_ns = self._began_ns = 0
        self._result: Any = None
        self._storages: tuple[list[int], list[int]] = ([], [])
        self._cost_ns = {"open": 0, "stop": 0, "read": 0}
        self._sites: CallSites | None = None
        self._restore: Callable[[], None] | None = None
        self._patience_s = 0.0
        self._queued_ns = -1  # in the run queue: at the opening, then during the window
        self._spent_ns = 0
        self._windows = self._attempts = 0
        self._checked = False

    def after_fork(self) -> None:
        """A forked child starts afresh; what the parent had open is its own."""
        self._reset()

    # On the agent's thread.

    def tick(self, writer: ProcessWriter, steps: int) -> None:
        """Ten times a second: opens what is due, reads what is ready, gives up what takes long."""
        now = time.perf_counter_ns()
        self._began_ns = self._began_ns or (now if steps else 0)
        trained_s = (now - self._began_ns) / 1e9
        if self._state == READY:
            self._read(writer)
        elif self._state == IDLE and self._handle is not None:
            self._hooks.ask(self._unregister)
        elif self._state == IDLE and self._is_due(steps, trained_s):
            self._state = ARMED
            self._attempts += 1
            self._patience_s = max(1.0, LONGEST_WINDOW * trained_s / steps)
            self._hooks.ask(self._register)
        elif self._state in (OPEN, LOOKING) and now - self._opened_ns > self._patience_s * 1e9:
            self._hooks.ask(self.abandon)

    def finish(self, writer: ProcessWriter) -> None:
        """At the end of the training: reads the last window, or says why there is none."""
        if self._state == READY:
            self._read(writer)
        if not self._windows:
            reason = self._reason or "the training ended before a window of the profiler was due"
            writer.fact(Fact("operators", "status", time.perf_counter_ns(), {"reason": reason}))

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
        if not hasattr(torch.autograd, "_disable_profiler"):
            return "this torch has no profiler that could be opened for one step"
        if self._hooks.profiler_used or _script_profiles():
            return "the script uses torch's profiler itself"
        if accelerator_in_use(torch) is not None:
            return "operators are looked at on the CPU only, and this training uses an accelerator"
        if os.environ.get(LOG_LEVEL, _SILENT) != _SILENT:
            return f"{LOG_LEVEL} is set, so that the profiler would print into the script's stderr"
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
        torch = self._torch
        if torch.autograd._profiler_enabled():
            self._reason = "the script uses torch's profiler itself"
            self._state = IDLE
            return
        profiler = torch._C._profiler
        activities = {profiler.ProfilerActivity.CPU}
        config = profiler.ProfilerConfig(
            profiler.ProfilerState.KINETO,
            True,  # shapes
            False,  # memory
            False,  # stacks
            False,  # flops
            False,  # modules
            profiler._ExperimentalConfig(),
            "",
        )
        start_ns = time.perf_counter_ns()
        silence = LOG_LEVEL not in os.environ
        if silence:
            os.environ[LOG_LEVEL] = _SILENT  # Kineto reads it once, when it first starts
        try:
            torch.autograd._prepare_profiler(config, activities)
        finally:
            if silence:
                del os.environ[LOG_LEVEL]
        self._make_way()
        torch.autograd._enable_profiler(config, activities)
        self._opened_in = get_ident()
        self._queued_ns = self._recorder.run_queue_ns()
        self._opened_ns = time.perf_counter_ns()
        self._cost_ns["open"] = self._opened_ns - start_ns
        self._state = OPEN

    def _stop(self) -> None:
        self._stopped_ns = time.perf_counter_ns()
        queued_ns = self._recorder.run_queue_ns()
        known = queued_ns >= 0 and self._queued_ns >= 0
        self._queued_ns = queued_ns - self._queued_ns if known else -1
        self._opened_in = 0
        if self._restore is not None:
            self._restore()
            self._restore = None
        self._result = self._torch.autograd._disable_profiler()
        self._cost_ns["stop"] = time.perf_counter_ns() - self._stopped_ns

    def _make_way(self) -> None:
        """A profiler that the script starts meanwhile stops ours first: one of two is lost."""
        module: Any = sys.modules["torch.autograd.profiler"]
        original = module._prepare_profiler

        def _prepare_profiler(*args: Any, **kwargs: Any) -> Any:
            self._reason = "the script uses torch's profiler itself"
            guard.attempt("operators", self.abandon)
            return original(*args, **kwargs)

        def restore() -> None:
            if module._prepare_profiler is _prepare_profiler:
                module._prepare_profiler = original

        module._prepare_profiler = _prepare_profiler
        self._restore = restore

    def abandon(self) -> None:
        """Stops what is open in the calling thread, and forgets it."""
        if self._opened_in == get_ident():
            self._stop()
            self._result = None
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


def _script_profiles() -> bool:
    """Whether the main script's text names torch's profiler."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str):
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return _PROFILING.search(source.read(1_000_000)) is not None
    except OSError:
        return False


def _rank(torch: Any) -> int:
    distributed: Any = getattr(torch, "distributed", None)
    if distributed is not None and distributed.is_available() and distributed.is_initialized():
        return int(distributed.get_rank())
    return 0
