"""optimizer-8bit."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .exchanged_optimizer import FAILURES, LEAST_NUMBERS, exchange, form_of, numbers_of
from .fix import Fix, Process, ReadBack
from .made_objects import MadeAt

EXCHANGED = ("Adam", "AdamW", "SGD")
NO_FORM = ("amsgrad", "maximize", "foreach", "fused", "capturable", "differentiable", "nesterov")
"""Settings that an 8-bit form does not have."""


class Optimizer8bit(Fix):
    """Adam, AdamW and SGD with momentum keep their state in 8 bits a number: a quarter of it.

    By bitsandbytes, else torchao (Adam, AdamW), as the script's environment has them; nothing is
    installed. The optimizer is exchanged while the script makes it, and is one of torch's class
    still. It frees memory and makes no step faster: the gain is a larger batch in it. On a CPU the
    update takes several times as long. torchao compiles its update anew for each value of the
    betas, so that a schedule that moves them (`OneCycleLR` does) makes it slow.

    Semantics: a number of the state is one of 256 of its block's, percents off, and later updates
    build on that. Losses that agree over a few hundred steps do not show where that ends.
    Checkpoints hold that state then, and are loaded with this fix only; a state of torch's own that
    the script loads ends it.

    Refused where neither library is there, or has no update for the device; for other classes,
    `amsgrad`, `maximize`, `fused`, `foreach`, `capturable`, `differentiable`; SGD without momentum,
    with `nesterov` or dampening; Adam with weight decay in bitsandbytes (it decays as AdamW does);
    sharded, complex and float64 parameters; where no tensor has 4,096 numbers. A first update that
    fails is made by torch's own, which stays.
    """

    id = "optimizer-8bit"
    title = "Optimizer state in 8 bits"
    safety = "semantics"
    parameters: Mapping[str, type] = {}
    made_in_source = True
    by_hand = "bitsandbytes.optim.AdamW8bit(...) in place of torch.optim.AdamW(...)"

    def install(self, process: Process) -> None:
        """Wraps the base class's `__init__`, which every optimizer calls with its defaults."""
        self._process, self._torch = process, process.torch
        self._chosen = MadeAt(self.target)
        self._latest: weakref.ref[Any] | None = None  # as long as no update was seen
        self._found = False
        self._refused: str | None = None
        self._seen: dict[str, Any] = {}
        process.patches.replace(self._torch.optim.Optimizer, "__init__", self._init)
        process.after_update(self._look)

    def _init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            guard.attempt(f"fix {self.id}", self._made, optimizer, original)

        return like(original, __init__)

    def _made(self, optimizer: Any, original: Any) -> None:
        kind = type(optimizer)
        where = self._process.caller()
        if not self._chosen.chooses(where, f"{kind.__module__}.{kind.__qualname__}"):
            return
        self._refused = self._why_not(optimizer)
        if self._refused is not None:
            return
        form = form_of(self._torch, optimizer)
        if isinstance(form, str):
            self._refused = form
            return
        try:
            exchange(self._torch, optimizer, form, original, self._went_back)
        except FAILURES as error:
            self._refused = f"not here, because {form.library} says: {str(error)[:160]}"
            return
        self._found = True
        self._latest = weakref.ref(optimizer)
        self._seen = {"library": form.library, "kind": form.kind.__name__}

    def _why_not(self, optimizer: Any) -> str | None:
        name = type(optimizer).__name__
        if name not in EXCHANGED or type(optimizer) is not getattr(self._torch.optim, name):
            return f"{name} is none of torch's Adam, AdamW and SGD"
        for group in optimizer.param_groups:
            reason = self._why_not_group(name, group)
            if reason is not None:
                return reason
        sizes = [one.numel() for group in optimizer.param_groups for one in group["params"]]
        if max(sizes, default=0) < LEAST_NUMBERS:
            return f"no tensor has {LEAST_NUMBERS:,} numbers; smaller ones keep their state in full"
        return None

    def _why_not_group(self, name: str, group: Mapping[str, Any]) -> str | None:
        torch = self._torch
        for setting in NO_FORM:
            if group.get(setting):
                return f"{name} with {setting} has no 8-bit form"
        if name == "SGD" and not group["momentum"]:
            return "SGD without momentum has no state"
        if group.get("dampening"):
            return "SGD with dampening has no 8-bit form"
        if isinstance(group["lr"], torch.Tensor):
            return "the learning rate is a tensor"
        for one in group["params"]:
            if type(one) not in (torch.Tensor, torch.nn.Parameter) or hasattr(
                one, "_is_flat_param"
            ):
                return f"a parameter is a {type(one).__name__}, which may be a shard"
            if one.dtype not in (torch.float32, torch.float16, torch.bfloat16):
                return f"a parameter is of type {str(one.dtype).rpartition('.')[2]}"
        return None

    def _went_back(self, reason: str) -> None:
        self._refused = reason

    def _look(self) -> None:
        """What the state itself says, once there is one."""
        optimizer = self._latest() if self._latest is not None else None
        if optimizer is None or not optimizer.state:
            return
        low, total = numbers_of(self._torch, optimizer)
        self._seen |= {"numbers": total, "in_8_bits": low}
        self._latest = None

    def read_back(self) -> ReadBack:
        """How many numbers of the state are stored in 8 bits."""
        seen = dict(self._seen)
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if not self._found or self._chosen.ambiguous:
            return ReadBack(False, seen, self._chosen.why_none("optimizer"))
        if "numbers" not in seen:
            return ReadBack(None, seen, "there was no update yet")
        active = seen["in_8_bits"] > 0
        return ReadBack(active, seen, None if active else "its state is stored in full")
