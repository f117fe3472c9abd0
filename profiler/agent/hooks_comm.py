"""Communication that the training thread waits for.

Collectives called by the script are bracketed. DDP's own run inside the backward: there the wait is
what remains of the backward after the last gradient was produced.
"""

from __future__ import annotations

import weakref
from time import perf_counter_ns
from typing import Any

from . import guard
from . import marks as m
from .patching import Patches
from .recorder import Recorder

_COLLECTIVES = (
    "all_reduce",
    "all_gather",
    "all_gather_into_tensor",
    "all_gather_object",
    "all_to_all",
    "all_to_all_single",
    "barrier",
    "broadcast",
    "broadcast_object_list",
    "gather",
    "reduce",
    "reduce_scatter",
    "reduce_scatter_tensor",
    "scatter",
)
LAST_GRADIENTS = 4
"""Gradients of the first parameters come last; so many of them are watched."""


class CommunicationHooks:
    """Brackets collectives, and knows when the last gradient of a DDP model was produced.

    Attributes:
        backwards: Backwards of a DDP model, `synced` those after which gradients were averaged.
    """

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder
        self.backwards = self.synced = 0
        self._parallel: weakref.ref[Any] | None = None
        self._handles: list[Any] = []

    def install(self, patches: Patches) -> None:
        """Patches `torch.distributed`'s collectives, where this torch has them."""
        distributed = getattr(self._torch, "distributed", None)
        if distributed is None or not distributed.is_available():
            return
        for name in _COLLECTIVES:
            if hasattr(distributed, name):
                patches.replace(distributed, name, self._bracket)

    def uninstall(self) -> None:
        """Removes the gradient hooks."""
        for handle in self._handles:
            handle.remove()
        self._handles = []

    def follow(self, module: Any) -> None:
        """Watches the last gradients of `module` if it is a DistributedDataParallel."""
        if type(module).__name__ != "DistributedDataParallel":
            return
        self._parallel = weakref.ref(module)
        trainable = [p for p in module.parameters() if p.requires_grad]
        for parameter in trainable[:LAST_GRADIENTS]:
            register = getattr(parameter, "register_post_accumulate_grad_hook", None)
            if register is not None:
                self._handles.append(register(self._gradient_done))

    def _gradient_done(self, parameter: Any) -> None:
        self._recorder.last_gradient_ns = perf_counter_ns()

    @property
    def parallel(self) -> Any:
        """The DDP model that is followed, or None."""
        return self._parallel() if self._parallel is not None else None

    def backward_ended(self) -> None:
        """Leaves the wait after the last gradient as a COMM interval inside the backward."""
        recorder = self._recorder
        marks = recorder.marks
        self.backwards += 1
        self.synced += getattr(self.parallel, "require_backward_grad_sync", True)
        start_ns = max(recorder.last_gradient_ns, marks[-1][1] if marks else 0)
        recorder.last_gradient_ns = 0
        if not recorder.detailed:  # a mark made afterwards has no thread state
            marks.append((m.COMM, start_ns, 0, 0))
            recorder.mark(m.COMM_END)

    def _bracket(self, original: Any) -> Any:
        recorder = self._recorder

        def collective(*args: Any, **kwargs: Any) -> Any:
            if not recorder.active():
                return original(*args, **kwargs)
            recorder.mark(m.COMM)
            try:
                return original(*args, **kwargs)
            finally:
                recorder.mark(m.COMM_END)

        for name in ("__module__", "__name__", "__qualname__", "__doc__"):
            guard.attempt("communication", setattr, collective, name, getattr(original, name, None))
        return collective
