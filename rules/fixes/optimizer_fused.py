"""optimizer-fused."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from .fix import Fix, Process, ReadBack
from .made_objects import MadeAt
from .source_edit import CallArguments

FUSED = ("Adam", "AdamW", "SGD", "Adagrad")
"""Classes of torch.optim with a fused form on the CPU (torch 2.4 and newer)."""


class OptimizerFused(Fix):
    """The fused implementation of torch's own optimizers: one pass instead of one per operation.

    The groups' `fused` flag is set when the optimizer is made. Rounding differs, the algorithm does
    not; state dicts stay interchangeable.

    It is refused for classes without a fused form, for `differentiable=True`, and where parameters
    are not all floating point numbers on one kind of device.
    """

    id = "optimizer-fused"
    title = "Fused optimizer"
    safety = "numerics"
    parameters: Mapping[str, type] = {"fused": bool}
    verifies = ("step.optimizer_share", "down")
    made_in_source = True

    def install(self, process: Process) -> None:
        """Wraps the base class's `__init__`, which every optimizer calls with its defaults."""
        self._process = process
        self._chosen = MadeAt(self.target)
        self._latest: weakref.ref[Any] | None = None
        self._fused = False  # as of the last look; the optimizer may be gone when it is asked for
        self._refused: str | None = None
        process.patches.replace(process.torch.optim.Optimizer, "__init__", self._init)

    def _init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            kind = type(optimizer)
            where = self._process.caller()
            if not self._chosen.chooses(where, f"{kind.__module__}.{kind.__qualname__}"):
                return
            self._refused = self._why_not(optimizer)
            if self._refused is None:
                for group in [optimizer.defaults, *optimizer.param_groups]:
                    group["fused"], group["foreach"] = True, False
                optimizer._step_supports_amp_scaling = True
                self._latest = weakref.ref(optimizer)
                self._look()

        return __init__

    def _why_not(self, optimizer: Any) -> str | None:
        torch = self._process.torch
        name = type(optimizer).__name__
        own = name in FUSED and type(optimizer) is getattr(torch.optim, name)
        if not own or "fused" not in optimizer.defaults:
            return f"{name} has no fused form"
        if optimizer.defaults.get("differentiable"):
            return "the optimizer is differentiable"
        devices = set()
        for group in optimizer.param_groups:
            for parameter in group["params"]:
                if not parameter.is_floating_point():
                    return "a parameter holds no floating point numbers"
                devices.add(parameter.device.type)
        return "its parameters lie on several kinds of device" if len(devices) > 1 else None

    def read_back(self) -> ReadBack:
        """The flags of the groups."""
        if self._refused is not None:
            return ReadBack(False, reason=self._refused)
        if self._latest is None or self._chosen.ambiguous:
            return ReadBack(False, reason=self._chosen.why_none("optimizer"))
        self._look()
        return ReadBack(
            self._fused, {"fused": self._fused}, None if self._fused else "it was reset"
        )

    def _look(self) -> None:
        optimizer = self._latest() if self._latest is not None else None
        if optimizer is not None:
            self._fused = all(group.get("fused") is True for group in optimizer.param_groups)

    def edit(self) -> CallArguments:
        """`fused=True` in the very call; torch refuses it beside `foreach=True`."""
        return CallArguments(FUSED, {"fused": True}, excluded={"foreach": True})
