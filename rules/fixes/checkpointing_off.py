"""checkpointing-off."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from typing import Any

from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .memory import memory_is_short
from .source_edit import SourceEdit, WithoutCheckpointing

LOOK_EVERY = 32
"""Updates between two looks at the memory, once the first of them are over."""


class CheckpointingOff(Fix):
    """Activation checkpointing calls its function directly, and keeps the activations.

    This holds for `torch.utils.checkpoint.checkpoint`, `checkpoint_sequential`, and what goes
    through them, as the `gradient_checkpointing` of transformers does. The forward draws the same
    random numbers as before.

    A call stays checkpointed where its direct call would not be the same: with `context_fn`, with
    `preserve_rng_state=False` (the second run draws numbers of its own), with a BatchNorm in it
    (its statistics are updated twice), and with `use_reentrant=True` where no input needs a
    gradient (nothing in it is trained). All calls are checkpointed again when less than a tenth of
    the memory is left.
    """

    id = "checkpointing-off"
    title = "Activations are kept instead of computed again"
    safety = "safe"
    parameters: Mapping[str, type] = {}

    def install(self, process: Process) -> None:
        """Wraps `checkpoint`, which `checkpoint_sequential` calls by its name."""
        self._torch = process.torch
        self._direct = self._kept = self._updates = 0
        self._reason: str | None = None
        self._short = False
        module = sys.modules["torch.utils.checkpoint"]
        self._no_contexts = getattr(module, "noop_context_fn", None)
        process.patches.replace(module, "checkpoint", self._wrap)
        process.after_update(self._watch)

    def _wrap(self, original: Any) -> Any:
        def checkpoint(function: Any, *args: Any, **kwargs: Any) -> Any:
            if self._torch.compiler.is_dynamo_compiling() or self._short:
                return original(function, *args, **kwargs)
            reason = self._why_not(function, args, kwargs)
            if reason is not None:
                self._kept += 1
                self._reason = reason
                return original(function, *args, **kwargs)
            self._direct += 1
            return function(*args, **_own(kwargs))

        return like(original, checkpoint)

    def _why_not(
        self, function: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]
    ) -> str | None:
        if kwargs.get("context_fn", self._no_contexts) is not self._no_contexts:
            return "it is told by context_fn what to keep"
        if not kwargs.get("preserve_rng_state", True):
            return "its second run draws random numbers of its own (preserve_rng_state=False)"
        torch = self._torch
        reentrant = kwargs.get("use_reentrant", True) is not False
        needed = any(isinstance(one, torch.Tensor) and one.requires_grad for one in args)
        if reentrant and torch.is_grad_enabled() and not needed:
            return "no input needs a gradient, so that use_reentrant=True trains nothing in it"
        if reentrant and _own(kwargs):
            return "use_reentrant=True takes no keywords"  # the original says so
        if any(_counts_batches(torch, module) for module in _modules(torch, function)):
            return "the statistics of a BatchNorm in it are updated twice"
        return None

    def _watch(self) -> None:
        self._updates += 1
        early = self._updates < LOOK_EVERY
        if self._direct and (early or self._updates % LOOK_EVERY == 0) and not self._short:
            self._short = memory_is_short(self._torch)

    def read_back(self) -> ReadBack:
        """How many calls were made directly, and how many were not."""
        seen = {"direct": self._direct, "checkpointed": self._kept}
        if self._short:
            return ReadBack(False, seen, "less than a tenth of the memory was left without it")
        if self._direct:
            return ReadBack(True, seen)
        return ReadBack(False, seen, self._reason or "the script checkpoints nothing")

    def edit(self) -> SourceEdit:
        """Checkpointed functions are called directly."""
        return WithoutCheckpointing()


OPTIONS = frozenset(
    (
        "use_reentrant",
        "context_fn",
        "determinism_check",
        "debug",
        "early_stop",
        "preserve_rng_state",
    )
)
"""Keywords of `checkpoint` itself; the others are the function's."""


def _own(kwargs: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in kwargs.items() if name not in OPTIONS}


def _modules(torch: Any, function: Callable[..., Any]) -> Iterator[Any]:
    """The modules that a function is, is a method of, or has closed over."""
    waiting: list[Any] = [function]
    for _ in range(32):
        if not waiting:
            return
        one = waiting.pop()
        if isinstance(one, torch.nn.Module):
            yield one
        elif isinstance(one, (list, tuple)):
            waiting += one[:32]
        else:
            waiting += [part for part in _held(one) if part is not None]


def _held(function: Any) -> list[Any]:
    cells = getattr(function, "__closure__", None) or ()
    held = [getattr(function, "__self__", None), getattr(function, "func", None)]
    held += getattr(function, "args", None) or () if hasattr(function, "func") else ()
    for cell in cells:
        try:
            held.append(cell.cell_contents)
        except ValueError:  # not filled yet
            continue
    kinds = (list, tuple)
    return [one for one in held if callable(one) or isinstance(one, kinds)]


def _counts_batches(torch: Any, module: Any) -> bool:
    norm = torch.nn.modules.batchnorm._NormBase
    return any(
        isinstance(part, norm) and part.training and part.track_running_stats
        for part in module.modules()
    )
