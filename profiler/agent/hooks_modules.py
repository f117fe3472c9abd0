"""The hook on root modules: those with parameters that are called at depth 0.

While roots are being discovered, `nn.Module.__call__` is patched, which costs every submodule call
about 0.2 us. Once the roots of a deep model are known, only their classes keep a patch and the
submodules cost nothing; a new loader, a backward without a forward, or half a minute start the
discovery anew.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from threading import get_ident
from time import monotonic, perf_counter_ns
from typing import Any

from . import guard
from .compiled import has_compiled
from .marks import FORWARD, FORWARD_END, FORWARD_TRAINING
from .patching import Patches, hide_from_compiler, like
from .recorder import Recorder
from .registry import Registry, forgetting

SETTLE_AFTER_UPDATES = 16
"""So many updates without a new root end the discovery."""
DISCOVER_EVERY_S = 30.0
DEEP_SUBMODULES = 4
"""A model with fewer modules is not worth the change."""


class ModuleHooks:
    """Brackets the forwards of root modules.

    Args:
        torch: The user's torch.
        recorder: Takes the marks.
        on_root: Called with each root module when it is first seen.
        before_forward, in_forward: Called in the training thread around the opening mark.

    Attributes:
        modules: The numbers in the marks.
    """

    def __init__(
        self,
        torch: Any,
        recorder: Recorder,
        on_root: Callable[[Any], None],
        before_forward: Callable[[], None],
        in_forward: Callable[[], None],
    ) -> None:
        self._torch = torch
        self._base = torch.nn.Module
        self._recorder = recorder
        self._on_root = on_root
        self._before_forward = before_forward
        self._in_forward = in_forward
        self.modules: Registry[Any] = Registry()
        self._numbers: dict[int, int] = {}  # by id, while they live; -1 for those that are no root
        self._references: dict[int, Any] = {}
        self._classes: dict[type, None] = {}
        self._deep = False
        self._patches = Patches()
        self._settled = False
        self._discovery_began = (0, 0.0)  # updates, monotonic seconds

    def install(self) -> None:
        """Begins the discovery."""
        self._patches.replace(self._base, "__call__", self._wrap)

    def uninstall(self) -> None:
        """Leaves every class as it was."""
        self._patches.undo()

    # Discovery.

    def consider(self) -> None:
        """Between two steps: settles when the roots are known, and looks again now and then."""
        updates, began_s = self._discovery_began
        if has_compiled():
            return
        if not self._settled:
            if self._deep and self._recorder.updates - updates >= SETTLE_AFTER_UPDATES:
                self._settle()
        elif monotonic() - began_s > DISCOVER_EVERY_S:
            self.discover()

    def discover(self) -> None:
        """Something new may be called: watches every module again."""
        self._discovery_began = (self._recorder.updates, monotonic())
        if self._settled and not has_compiled():
            self._settled = False
            self._patches.undo()
            self.install()

    def _settle(self) -> None:
        self._settled = True
        self._discovery_began = (self._recorder.updates, monotonic())
        self._patches.undo()
        for cls in self._classes:
            self._patches.replace(cls, "__call__", self._wrap)

    # The hook.

    def _wrap(self, original: Any) -> Any:
        recorder = self._recorder
        compiling = recorder.compiling
        append, now, ident = recorder.append, perf_counter_ns, get_ident
        numbers, gradients = self._numbers, self._torch.is_grad_enabled
        thorough = self._thorough(original)

        # torch's profiler takes this for Module.__call__ and reads `self` out of its frame.
        def __call__(self: Any, *args: Any, **kwargs: Any) -> Any:
            if compiling() or recorder.inside:
                return original(self, *args, **kwargs)
            number = numbers.get(id(self))
            if ident() != recorder.quick or number is None:
                return thorough(self, *args, **kwargs)
            if number < 0:
                return original(self, *args, **kwargs)
            bits = (FORWARD_TRAINING if self.training else 0) + gradients()
            recorder.inside = recorder.called = True
            append((FORWARD, now(), number, bits))
            try:
                return original(self, *args, **kwargs)
            finally:
                append((FORWARD_END, now(), number, bits))
                recorder.inside = False

        return like(original, __call__)

    def _thorough(self, original: Any) -> Any:
        recorder = self._recorder
        gradients = self._torch.is_grad_enabled

        def thorough_call(module: Any, /, *args: Any, **kwargs: Any) -> Any:
            if get_ident() != recorder.thread:
                return original(module, *args, **kwargs)
            number = self._numbers.get(id(module))
            if number is None:
                number = self._look_at(module)
            if number < 0:
                return original(module, *args, **kwargs)
            self._before_forward()
            bits = (FORWARD_TRAINING if module.training else 0) + gradients()
            recorder.inside = recorder.called = True
            recorder.mark(FORWARD, number, bits)
            if recorder.flags_due:
                self._in_forward()
            try:
                return original(module, *args, **kwargs)
            finally:
                recorder.mark(FORWARD_END, number, bits)
                recorder.inside = False

        hide_from_compiler(thorough_call)
        return thorough_call

    def _look_at(self, module: Any) -> int:
        """A module at depth 0 that is met for the first time: its number, -1 if it is no root."""
        number = guard.attempt("modules", self._new_root, module)
        number = -1 if number is None else number
        forget = forgetting(id(module), self._numbers, self._references)
        self._references[id(module)] = weakref.ref(module, forget)
        self._numbers[id(module)] = number
        return number

    def _new_root(self, module: Any) -> int:
        """The number of a module with parameters; a loss or an activation has none: -1."""
        if next(module.parameters(), None) is None:
            return -1
        self._classes[type(module)] = None
        self._deep = self._deep or sum(1 for _ in module.modules()) >= DEEP_SUBMODULES
        self._discovery_began = (self._recorder.updates, monotonic())
        self._on_root(module)
        return self.modules.number(module)
