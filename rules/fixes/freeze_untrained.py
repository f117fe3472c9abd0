"""freeze-untrained."""

from __future__ import annotations

import weakref
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .gradient_readers import listening_parameter, reader_is
from .source_edit import Frozen, SourceEdit

AFTER_UPDATES = 3
"""That are watched before anything is frozen."""
MOST_WALKS = 16
"""Backwards whose graph is walked for the parameters behind it."""
MOST_NODES = 200_000
OPAQUE = {
    "CheckpointFunctionBackward": "activation checkpointing with use_reentrant=True needs an input "
    "with a gradient",
    "CompiledFunctionBackward": "torch.compile runs the backward as one piece",
}
"""Nodes behind which the graph is not seen, with the reason to leave all as it is."""

NO_READER = "torch.nn.modules.module"
"""Looks at gradients without using them: zero_grad and to."""


class FreezeUntrained(Fix):
    """`requires_grad_(False)` for the parameters that get gradients but that no optimizer holds.

    A few steps are watched first. Nothing is frozen where the script reads such a gradient (to clip
    it, log it or update by hand), hooks it, asks for it by name, or shares gradients among ranks.
    If it reads one later, or hands the parameter to an optimizer after all, gradients are switched
    on again and the fix counts as not in force. `Module.zero_grad` only clears, and is no reader.

    Updates stay the same to the last bit, as no optimizer sees a difference.
    """

    id = "freeze-untrained"
    title = "No gradients for what nobody trains"
    by_hand = "for parameter in part.parameters(): parameter.requires_grad_(False)"
    safety = "safe"
    parameters: Mapping[str, type] = {"modules": list}
    verifies = ("step.backward_share", "down")

    def install(self, process: Process) -> None:
        """Watches optimizers and backwards until a few updates are over."""
        self._torch = torch = process.torch
        self._caller = process.caller
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._frozen: dict[int, weakref.ref[Any]] = {}
        self._updates = self._walks = 0
        self._refused: str | None = None
        self._listening = listening_parameter(torch, f"fix {self.id}", self._on_read)
        process.patches.replace(torch.optim.Optimizer, "__init__", self._init)
        process.patches.replace(torch.optim.Optimizer, "add_param_group", self._add)
        process.patches.replace(torch.autograd, "_engine_run_backward", self._engine)
        process.after_update(self._after_update)

    # What is held by an optimizer.

    def _init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            self._optimizers.add(optimizer)
            original(optimizer, *args, **kwargs)

        return like(original, __init__)

    def _add(self, original: Any) -> Any:
        def add_param_group(optimizer: Any, group: Any) -> Any:
            guard.attempt(f"fix {self.id}", self._meet_group, group)
            return original(optimizer, group)

        return like(original, add_param_group)

    def _meet_group(self, group: Any) -> None:
        """Parameters that are to be trained after all, or copies of frozen ones."""
        params = group.get("params") if isinstance(group, dict) else None
        if params is None or isinstance(params, set):  # the original says what is wrong
            return
        params = [params] if isinstance(params, self._torch.Tensor) else list(params)
        group["params"] = params
        mine: list[Any] = [one for one in map(_plain, params) if type(one) is self._listening]
        if any(not one.requires_grad for one in mine):
            self._give_up("an optimizer got frozen parameters later")
            for one in mine:
                one.requires_grad_(True)
        for one in mine:
            one.__class__ = self._torch.nn.Parameter
            self._watched.pop(id(one), None)

    # What gets gradients.

    def _engine(self, original: Any) -> Any:
        def _engine_run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self._refused is None and not self._frozen and self._walks < MOST_WALKS:
                guard.attempt(f"fix {self.id}", self._walk, outputs, args, kwargs)
            return original(outputs, *args, **kwargs)

        return like(original, _engine_run_backward)

    def _walk(self, outputs: Any, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        self._walks += 1
        distributed = getattr(self._torch, "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            self._give_up("ranks share their gradients")
            return
        held = self._held()
        leaves = list(self._leaves(outputs))
        found = [one for one in leaves if id(one) not in held]
        if found and len(found) == len(leaves):
            self._give_up("a backward reaches nothing else, and would fail")
        if self._refused is not None:
            return
        inputs = args[3] if len(args) > 3 else kwargs.get("inputs", ())
        asked = {id(one) for one in inputs or () if isinstance(one, self._torch.Tensor)}
        if any(id(one) in asked for one in found):
            self._give_up("the script asks for their gradients by name")
        for one in found:
            if one.__class__ is self._torch.nn.Parameter:
                one.__class__ = self._listening
                self._watched[id(one)] = weakref.ref(one)

    def _held(self) -> set[int]:
        optimizers = list(self._optimizers)
        groups = (group for one in optimizers for group in getattr(one, "param_groups", ()))
        return {id(parameter) for group in groups for parameter in group["params"]}

    def _leaves(self, outputs: Iterable[Any]) -> Iterator[Any]:
        """Parameters behind the outputs' graphs."""
        waiting = [one.grad_fn for one in outputs if getattr(one, "grad_fn", None) is not None]
        seen = set(waiting)
        while waiting and len(seen) < MOST_NODES:
            node = waiting.pop()
            reason = OPAQUE.get(type(node).__name__)
            if reason is not None:
                self._give_up(reason)
                return
            if type(node).__name__ == "AccumulateGrad":
                leaf = node.variable
                if isinstance(leaf, self._torch.nn.Parameter):
                    yield leaf
            for following, _ in node.next_functions:
                if following is not None and following not in seen:
                    seen.add(following)
                    waiting.append(following)

    # Freezing.

    def _after_update(self) -> None:
        self._updates += 1
        if self._updates != AFTER_UPDATES or self._refused is not None:
            return
        held = self._held()
        chosen = [one for one in _alive(self._watched) if id(one) not in held and self._meant(one)]
        if any(one._backward_hooks or _accumulated(one) for one in chosen):
            self._give_up("the script hooks their gradients")
            return
        for one in chosen:
            one.requires_grad_(False)
            self._frozen[id(one)] = weakref.ref(one)

    def _meant(self, parameter: Any) -> bool:
        return bool(parameter.requires_grad and parameter.is_leaf)

    def _on_read(self, parameter: Any) -> None:
        """Somebody reads a gradient that the fix takes away, or would."""
        if reader_is(NO_READER) or self._refused:
            return
        where = self._caller()
        place = f" at {where['file']}:{where['line']}" if where is not None else ""
        self._give_up(f"the script reads their gradients{place}")

    def _give_up(self, reason: str) -> None:
        self._refused = self._refused or reason
        for one in _alive(self._frozen):
            one.requires_grad_(True)
        for one in [*_alive(self._watched), *_alive(self._frozen)]:
            if type(one) is self._listening:
                one.__class__ = self._torch.nn.Parameter

    def read_back(self) -> ReadBack:
        """How many parameters are frozen, as they themselves say."""
        frozen = [one for one in _alive(self._frozen) if not one.requires_grad]
        seen = {"tensors": len(frozen), "elements": sum(int(one.numel()) for one in frozen)}
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if self._updates < AFTER_UPDATES:
            return ReadBack(None, seen, f"fewer than {AFTER_UPDATES} updates were made")
        if not self._frozen:
            return ReadBack(False, seen, "an optimizer holds all that gets gradients")
        return ReadBack(bool(frozen), seen, None if frozen else "the script unfroze them")

    def edit(self) -> SourceEdit | None:
        """A line for each part, above the optimizer."""
        names = [str(name) for name in self.params.get("modules", ()) if name]
        return Frozen(tuple(names)) if names else None


def _plain(entry: Any) -> Any:
    """Optimizers also take pairs of name and parameter."""
    return entry[1] if isinstance(entry, tuple) and len(entry) == 2 else entry


def _accumulated(parameter: Any) -> bool:
    return bool(getattr(parameter, "_post_accumulate_grad_hooks", None))


def _alive(references: Mapping[int, weakref.ref[Any]]) -> list[Any]:
    return [one for reference in references.values() if (one := reference()) is not None]
