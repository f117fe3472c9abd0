"""The hooks on what changes parameters: optimizers, and updates without one.

An update by hand is seen in the version counter of one trainable parameter. It is looked for only
while there is no optimizer, or it does not step: where one does, its hooks say when, and whatever
else changes parameters (perturbing them, clipping them) is no update.
"""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from threading import get_ident
from time import perf_counter_ns
from typing import Any

from . import guard
from . import marks as m
from .location import caller_location
from .patching import Patches, hide_from_compiler, like
from .recorder import Recorder
from .registry import Registry

CONSIDER_EVERY = 8
"""Updates on the thorough way between two looks at whether the root modules are known."""
_OPTIMIZER, _OPTIMIZER_END = m.OPTIMIZER, m.OPTIMIZER_END
_ZERO_GRAD, _ZERO_GRAD_END = m.ZERO_GRAD, m.ZERO_GRAD_END


class OptimizerHooks:
    """Brackets `Optimizer.step`, `zero_grad` and `GradScaler.step`.

    Args:
        torch: The user's torch.
        recorder: Takes the marks.
        start: Called before the first step of an optimizer, if no backward was seen before.
        between_steps: Called now and then when an update has ended.
        check_limit: With --steps: called before each update; raises to stop.

    Attributes:
        optimizers: The numbers in the marks.
        sites: Where each optimizer was made, by number.
        stepping: An optimizer step is under way (a closure runs its backwards inside).
    """

    def __init__(
        self,
        torch: Any,
        recorder: Recorder,
        start: Callable[[], None],
        between_steps: Callable[[], None],
        check_limit: Callable[[], None] | None,
    ) -> None:
        self._torch = torch
        self._recorder = recorder
        self._start = start
        self._between_steps = between_steps
        self._check_limit = check_limit
        self.optimizers: Registry[Any] = Registry()
        self.sites: dict[int, Any] = {}
        self.stepping = False
        self._handles: list[Any] = []

    def install(self, patches: Patches) -> None:
        """Patches the classes and registers the official step hooks."""
        optimizer = self._torch.optim.Optimizer
        patches.replace(optimizer, "__init__", self._init)
        patches.replace(optimizer, "zero_grad", self._zero_grad)
        register = sys.modules["torch.optim.optimizer"]  # torch.optim deletes the name
        self._handles = [
            register.register_optimizer_step_pre_hook(self._before_step()),
            register.register_optimizer_step_post_hook(self._after_step()),
        ]
        scaler = getattr(self._torch.amp, "GradScaler", None)
        if scaler is not None:
            patches.replace(scaler, "step", self._scaler_step)

    def uninstall(self) -> None:
        """Removes the step hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def _init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            guard.attempt("optimizers", self._note, optimizer)

        return like(original, __init__)

    def _note(self, optimizer: Any) -> None:
        if not self._recorder.backwards:
            self._recorder.inferring = False  # what changes parameters now need be no update
        self.sites[self.optimizers.number(optimizer)] = caller_location()

    def _before_step(self) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident
        numbers, number_of = self.optimizers.numbers, self.optimizers.number

        def before_step(optimizer: Any, args: Any, kwargs: Any) -> None:
            thread = ident()
            if thread != recorder.thread or recorder.compiling():
                return
            self.stepping = True
            number = numbers.get(id(optimizer))
            if thread == recorder.quick and number is not None:
                append((_OPTIMIZER, now(), number, 0))
            else:
                self._start()
                recorder.mark(_OPTIMIZER, number_of(optimizer))
            if self._check_limit is not None:
                self._check_limit()

        hide_from_compiler(before_step)
        return before_step

    def _after_step(self) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident
        numbers, number_of = self.optimizers.numbers, self.optimizers.number

        def after_step(optimizer: Any, args: Any, kwargs: Any) -> None:
            thread = ident()
            if thread != recorder.thread or recorder.compiling():
                return
            self.stepping = False
            number = numbers.get(id(optimizer))
            if thread == recorder.quick and recorder.asked and number is not None:
                recorder.asked -= 1
                recorder.step_over = True
                recorder.updates += 1
                recorder.backwards = 0
                append((_OPTIMIZER_END, now(), number, 0))
                return
            recorder.update_pending = recorder.inferring = False
            recorder.updated(_OPTIMIZER_END, number_of(optimizer))
            if recorder.updates % CONSIDER_EVERY == 0:
                guard.attempt("modules", self._between_steps)

        hide_from_compiler(after_step)
        return after_step

    def _zero_grad(self, original: Any) -> Any:
        recorder = self._recorder
        append, now, ident = recorder.append, perf_counter_ns, get_ident

        def zero_grad(optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            thread = ident()
            if thread != recorder.thread or recorder.compiling():
                return original(optimizer, *args, **kwargs)
            if thread != recorder.quick:
                recorder.mark(_ZERO_GRAD)
                try:
                    return original(optimizer, *args, **kwargs)
                finally:
                    recorder.mark(_ZERO_GRAD_END)
            append((_ZERO_GRAD, now(), 0, 0))
            try:
                return original(optimizer, *args, **kwargs)
            finally:
                append((_ZERO_GRAD_END, now(), 0, 0))

        return like(original, zero_grad)

    def _scaler_step(self, original: Any) -> Any:
        recorder = self._recorder

        def step(scaler: Any, optimizer: Any, *args: Any, **kwargs: Any) -> Any:
            """Its own work is the optimizer's; the step counts only if the optimizer's runs."""
            if not recorder.active():
                return original(scaler, optimizer, *args, **kwargs)
            recorder.mark(m.SCALER)
            try:
                return original(scaler, optimizer, *args, **kwargs)
            finally:
                recorder.mark(m.SCALER_END)

        return like(original, step)


class UpdateWatch:
    """Looks for updates without an optimizer, in the version of one trainable parameter."""

    def __init__(self, recorder: Recorder) -> None:
        self._recorder = recorder
        self._parameter: Any = None  # weak reference
        self._version = -1

    def follow(self, module: Any) -> None:
        """Watches a parameter of `module`, unless one is watched already."""
        if self._parameter is not None and self._parameter() is not None:
            return
        for parameter in module.parameters():
            if parameter.requires_grad:
                self._parameter = weakref.ref(parameter)
                self._version = parameter._version
                return

    def expect(self) -> None:
        """A backward has ended: from here on a change of the parameter is an update."""
        self._recorder.update_pending = True
        parameter = self._parameter() if self._parameter is not None else None
        if parameter is not None:
            self._version = parameter._version

    def look(self) -> None:
        """Leaves a mark if the parameter has changed since."""
        parameter = self._parameter() if self._parameter is not None else None
        if parameter is not None and parameter._version != self._version:
            self._recorder.update_pending = False
            self._recorder.mark(m.UPDATE)
