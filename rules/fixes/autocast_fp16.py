"""autocast-fp16."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .autocast_bf16 import AutocastBf16
from .fix import Process, ReadBack
from .nested import Nested
from .source_edit import SourceEdit

FIRST_SCALE = 2.0**16
GROWTH, BACKOFF, GROWTH_STEPS = 2.0, 0.5, 2_000
"""As torch.amp.GradScaler has them."""


class AutocastFp16(AutocastBf16):
    """The forward of root modules runs under autocast to float16, with the loss scaled.

    For GPUs without bfloat16. The backward starts from the scale in place of 1, and each gradient
    is divided by it before it is added up, so that accumulation, clipping and whatever else reads
    gradients see the true ones. An update with gradients that overflow is left out and the scale
    halved, as `torch.amp.GradScaler` does; the scale doubles after 2,000 updates without.

    Refused on the CPU, where float16 is slower; where autocast-bf16 is refused; where a root module
    takes inputs that need a gradient; for several optimizers, and for closures. Each update waits
    for the device once, to know whether there was an overflow. No GPU has confirmed it yet.
    """

    id = "autocast-fp16"
    title = "Autocast to float16 with a scaled loss"
    safety = "numerics"
    dtype = "float16"
    by_hand = (
        'with torch.autocast("cuda", torch.float16): around the forward, and '
        "torch.amp.GradScaler around backward and step"
    )
    refused_devices: tuple[str, ...] = ("cpu",)

    def install(self, process: Process) -> None:
        """Also wraps the backward and listens around updates."""
        super().install(process)
        torch = process.torch
        self._scale: dict[Any, Any] = {}
        self._tracker: dict[Any, Any] = {}
        self._overflow: dict[Any, Any] = {}
        self._scaling = False
        self._hooked: dict[int, weakref.ref[Any]] = {}  # tensors compare by their elements
        self._stepping: Callable[[], Any] | None = None
        self._handles: list[Any] = []
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._set_aside: list[tuple[Any, Any]] = []
        self._skipped_updates = self._updates = 0
        self._roots: weakref.WeakSet[Any] = weakref.WeakSet()
        self._nested = Nested(torch.Tensor)
        process.patches.replace(torch.optim.Optimizer, "__init__", self._init)
        process.patches.replace(torch.autograd, "_engine_run_backward", self._engine)
        optimizer: Any = sys.modules["torch.optim.optimizer"]
        self._handles.append(optimizer.register_optimizer_step_pre_hook(self._before_step))
        self._handles.append(optimizer.register_optimizer_step_post_hook(self._after_step))
        process.at_end(self._release)

    def _release(self) -> None:
        while self._handles:
            self._handles.pop().remove()

    def _why_not_on(self, device: str) -> str | None:
        return f"float16 is slower on a {device}" if device in self.refused_devices else None

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._refused is None and module.training:
            if any(one.requires_grad for one in self._nested.tensors((args, kwargs))):
                self._refused = "a module takes inputs that need a gradient"
            self._roots.add(module)
        return super()._around(module, call, args, kwargs)

    def _init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            self._optimizers.add(optimizer)

        return like(original, __init__)

    # The backward.

    def _engine(self, original: Any) -> Any:
        in_backward = getattr(self._torch._C, "_current_graph_task_id", lambda: -1)

        def _engine_run_backward(outputs: Any, gradients: Any, *args: Any, **kwargs: Any) -> Any:
            wanted = self._cast and self._refused is None and kwargs.get("accumulate_grad")
            if not wanted or in_backward() != -1:
                return original(outputs, gradients, *args, **kwargs)
            if guard.attempt(f"fix {self.id}", self._hook_all) is None:
                return original(outputs, gradients, *args, **kwargs)
            gradients = tuple(
                one if one is None else one * self._scale_on(one.device) for one in gradients
            )
            self._scaling = True
            try:
                return original(outputs, gradients, *args, **kwargs)
            finally:
                self._scaling = False

        return like(original, _engine_run_backward)

    def _hook_all(self) -> bool:
        """Every parameter that may get a gradient divides it."""
        for parameter in self._trained():
            known = self._hooked.get(id(parameter))
            if known is None or known() is not parameter:
                self._hooked[id(parameter)] = weakref.ref(parameter)
                self._handles.append(parameter.register_hook(self._unscaled))
        return True

    def _trained(self) -> list[Any]:
        held = [group["params"] for one in self._optimizers for group in one.param_groups]
        held += [list(root.parameters()) for root in self._roots]
        return [one for part in held for one in part if one.requires_grad]

    def _unscaled(self, gradient: Any) -> Any:
        """The true gradient; whether it overflowed is noted on the device."""
        if not self._scaling:
            return None
        device = gradient.device
        found = self._overflow.setdefault(device, self._torch.zeros((), device=device))
        true = gradient / self._scale_on(device)
        found.copy_(self._torch.maximum(found, (~true.isfinite().all()).to(found.dtype)))
        return true

    def _scale_on(self, device: Any) -> Any:
        if device not in self._scale:
            self._scale[device] = self._torch.full((), FIRST_SCALE, device=device)
            self._tracker[device] = self._torch.zeros((), dtype=self._torch.int32, device=device)
        return self._scale[device]

    # The update.

    def _before_step(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        guard.attempt(f"fix {self.id}", self._look, optimizer, args, kwargs)

    def _look(self, optimizer: Any, args: Any, kwargs: Any) -> None:
        """Takes the gradients away from an update that would be made of an overflow."""
        if not self._overflow or self._refused is not None:
            return
        if any(callable(one) for one in (*args[1:], *kwargs.values())):
            self._refused = "an optimizer takes a closure"
            return
        self._stepping = self._stepping or weakref.ref(optimizer)
        if id(self._stepping()) != id(optimizer):
            self._refused = "several optimizers make updates"
            return
        self._updates += 1
        if any(bool(found.item()) for found in self._overflow.values()):
            self._skipped_updates += 1
            for group in optimizer.param_groups:
                for parameter in group["params"]:
                    self._set_aside.append((parameter, parameter.grad))
                    parameter.grad = None

    def _after_step(self, *_: Any) -> None:
        guard.attempt(f"fix {self.id}", self._adapt)

    def _adapt(self) -> None:
        for parameter, gradient in self._set_aside:
            parameter.grad = gradient
        self._set_aside.clear()
        for device, found in self._overflow.items():
            self._torch._amp_update_scale_(
                self._scale_on(device), self._tracker[device], found, GROWTH, BACKOFF, GROWTH_STEPS
            )
            found.zero_()

    def read_back(self) -> ReadBack:
        """As for bfloat16, with the updates that were left out."""
        state = super().read_back()
        state.seen.update(updates=self._updates, left_out=self._skipped_updates)
        if state.active and self._updates and self._skipped_updates == self._updates:
            return ReadBack(False, state.seen, "every update overflowed")
        return state

    def edit(self) -> SourceEdit | None:
        """That takes a scaler at four places of the loop: a person's work."""
        return None
