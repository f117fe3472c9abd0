"""Parameters that ask for gradients although nothing moves them.

They require a gradient, but no optimizer holds them, or only with a learning rate of zero. That
nothing else moves them either (an update by hand) is shown by their values: a few elements of each
are compared from look to look, where they lie on the CPU.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Sequence
from typing import Any

from ..model.facts import UntrainedFact
from .backward_watch import BackwardWatch
from .compared_values import ComparedValues
from .compiled import has_compiled
from .gradient_reach import GradientReach
from .recorder import Recorder

MOST_NAMES = 12


class UntrainedParameters:
    """Looks once a second, on the agent's thread; without such parameters it costs 0.1 us each.

    Args:
        torch: The user's torch.
        recorder: Counts the updates.
        backwards: Samples backwards.
    """

    def __init__(self, torch: Any, recorder: Recorder, backwards: BackwardWatch) -> None:
        self._torch = torch
        self._recorder = recorder
        self._backwards = backwards
        self.after_fork()

    def after_fork(self) -> None:
        """Begins anew: a child looks for itself."""
        self._reach = GradientReach()
        self._values = ComparedValues(self._torch)

    def look(self, models: Sequence[Any], optimizers: Iterable[Any]) -> UntrainedFact | None:
        """What is known so far; None where every trainable parameter is moved by an optimizer.

        Args:
            models: Root modules whose forwards are followed by a backward.
            optimizers: All that were seen; without any nothing can be told.
        """
        moved = _moved(optimizers)
        if not moved:
            return None
        trainable = {id(p): p for model in models for p in model.parameters() if p.requires_grad}
        untrained = {key: p for key, p in trainable.items() if key not in moved}
        if not untrained:
            return None
        self._values.look(list(untrained.values()), self._recorder.updates)
        on_cpu = all(p.device.type == "cpu" for p in untrained.values())
        if on_cpu and not self._values.changed and not has_compiled():
            self._reach.prepare(moved.values())
            self._backwards.ask(self._reach)
        names = [name for model in models for name in _names(model, untrained.keys())]
        return {
            "parameters": sum(_elements(p) for p in untrained.values()),
            "trainable": sum(_elements(p) for p in trainable.values()),
            "tensors": len(untrained),
            "modules": names[:MOST_NAMES],
            "changed": self._values.changed,
            "updates_compared": self._values.updates,
            "backward_samples": [list(pair) for pair in list(self._reach.samples)],
            "on_cpu": on_cpu,
        }


def _moved(optimizers: Iterable[Any]) -> dict[int, Any]:
    """Parameters in a group whose learning rate is not zero, by id."""
    return {
        id(parameter): parameter
        for optimizer in optimizers
        for group in list(optimizer.param_groups)
        if not _is_zero(group.get("lr"))
        for parameter in list(group["params"])
    }


def _is_zero(rate: Any) -> bool:
    return type(rate) in (int, float) and rate == 0  # a tensor's value may lie on a device


def _names(model: Any, untrained: Container[int]) -> list[str]:
    """The outermost submodules of which every trainable parameter is untrained, in order."""
    names: list[str] = []
    stack = [("", model)]
    while stack:
        name, module = stack.pop()
        trainable = [p for p in module.parameters() if p.requires_grad]
        if not any(id(p) in untrained for p in trainable):
            continue
        if all(id(p) in untrained for p in trainable):
            names.append(name or type(module).__name__)
            continue
        own = (n for n, p in module._parameters.items() if p is not None and id(p) in untrained)
        names += [f"{name}.{one}" if name else one for one in own]
        children = [(f"{name}.{n}" if name else n, m) for n, m in module._modules.items()]
        stack += [child for child in reversed(children) if child[1] is not None]
    return names


def _elements(parameter: Any) -> int:
    return 0 if "Uninitialized" in type(parameter).__name__ else int(parameter.numel())
