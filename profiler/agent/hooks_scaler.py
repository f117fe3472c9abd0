"""Updates that a `GradScaler` skips because gradients were infinite or no numbers.

Nothing is read from a device: a scaler that skips does not call the optimizer's own step, and that
is seen from outside. An optimizer that is given the scale and skips inside its kernel (a fused one)
does not show it; such updates are counted as untold.

Measured: 1 us for an update through a scaler, nothing for others.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from ..model.records import Event
from .guard import attempt
from .patching import Patches, hide_methods_from_compiler, like
from .recorder import Recorder

COUNTS = ("steps", "skipped", "searching", "untold")


class ScalerCollector:
    """Counts on the training thread; the agent's thread reads."""

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder
        self._found = False  # a scale that works
        self._counts = dict.fromkeys(COUNTS, 0)
        self._taken = dict(self._counts)
        self._first_ns: int | None = None  # of the updates since the last event
        self._last_ns = 0

    def install(self, patches: Patches) -> None:
        """Patches `GradScaler.step`, where this torch has one."""
        scaler = getattr(getattr(self._torch, "amp", None), "GradScaler", None)
        if scaler is not None:
            patches.replace(scaler, "step", self._around_step)

    def uninstall(self) -> None:
        """Nothing to do: the patches are undone by their owner."""

    def take_events(self) -> list[Event]:
        """One event with the counts since the last call, none if there were no updates.

        It spans their first to their last update: a share of it is then a share of them.
        """
        first_ns, self._first_ns = self._first_ns, None
        now, before = dict(self._counts), self._taken
        self._taken = now
        data = {name: now[name] - before[name] for name in COUNTS}
        if not data["steps"]:
            return []
        last_ns = self._last_ns
        first_ns = last_ns if first_ns is None else first_ns
        return [Event("scaler", first_ns, max(last_ns - first_ns, 1), data)]

    def _around_step(self, original: Callable[..., Any]) -> Any:
        recorder = self._recorder

        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            if not recorder.active():
                return original(scaler, optimizer, *args, **kwargs)
            updates = recorder.updates
            result = original(scaler, optimizer, *args, **kwargs)
            attempt("hooks_scaler", self._count, scaler, optimizer, recorder.updates > updates)
            return result

        return like(original, step)

    def _count(self, scaler: Any, optimizer: Any, updated: bool) -> None:
        """An own class that only resembles an optimizer has no hooks that would tell."""
        if not scaler.is_enabled() or not isinstance(optimizer, self._torch.optim.Optimizer):
            return
        self._last_ns = perf_counter_ns()
        if self._first_ns is None:
            self._first_ns = self._last_ns
        self._counts["steps"] += 1
        if getattr(optimizer, "_step_supports_amp_scaling", False):
            self._counts["untold"] += 1
        elif updated:
            self._found = True
        else:
            self._counts["skipped" if self._found else "searching"] += 1


def install(torch: Any, recorder: Recorder, patches: Patches) -> ScalerCollector:
    """Starts counting skipped updates. Undone by `patches.undo()`."""
    hide_methods_from_compiler(ScalerCollector)
    collector = ScalerCollector(torch, recorder)
    collector.install(patches)
    return collector
