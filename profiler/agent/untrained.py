"""Parameters that ask for gradients although nothing moves them.

They require a gradient, but no optimizer holds them, or only with a learning rate of zero. That
nothing else moves them either (an update by hand) is shown by their values: a few elements of each
are compared from look to look, where they lie on the CPU.
"""

from __future__ import annotations

import sys
from collections.abc import Container, Iterable, Sequence
from typing import Any

from ..model.facts import UntrainedFact
from .gradient_reach import GradientReach
from .recorder import Recorder

MOST_COMPARED = 32
"""Tensors whose values are compared, spread evenly over all; 5 us each and look."""
ELEMENTS = 32
"""Elements of each, spread evenly."""
MOST_NAMES = 12


class UntrainedParameters:
    """Looks once a second, on the agent's thread; without such parameters it costs 0.1 us each.

    Args:
        torch: The user's torch.
        recorder: Tells which thread trains.
    """

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder
        self._begin()

    def _begin(self) -> None:
        self._reach = GradientReach(self._torch, self._recorder)
        self._values: dict[int, list[float]] = {}
        self._looks = 0
        self._first_update = 0
        self._changed = False

    def after_fork(self) -> None:
        """The child looks for itself."""
        self._reach.stop()
        self._begin()

    def stop(self) -> None:
        """Takes back the wrapper of a sampled backward that has not come."""
        self._reach.stop()

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
        self._compare(list(untrained.values()))
        on_cpu = all(p.device.type == "cpu" for p in untrained.values())
        if on_cpu and not self._changed and not _has_compiled():
            self._reach.look(moved.values())
        names = [name for model in models for name in _names(model, untrained.keys())]
        return {
            "parameters": sum(_elements(p) for p in untrained.values()),
            "trainable": sum(_elements(p) for p in trainable.values()),
            "tensors": len(untrained),
            "modules": names[:MOST_NAMES],
            "changed": self._changed if self._values and self._looks > 1 else None,
            "updates_compared": self._recorder.updates - self._first_update,
            "backward_samples": [list(pair) for pair in list(self._reach.samples)],
            "on_cpu": on_cpu,
        }

    def _compare(self, parameters: list[Any]) -> None:
        step = max(1, len(parameters) // MOST_COMPARED)
        for parameter in parameters[::step]:
            values = _some_values(self._torch, parameter)
            if values is None:
                continue
            before = self._values.setdefault(id(parameter), values)
            self._changed = self._changed or before != values
        if not self._looks:
            self._first_update = self._recorder.updates
        self._looks += 1


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


def _some_values(torch: Any, parameter: Any) -> list[float] | None:
    """Some elements of a plain tensor on the CPU, wherever they lie in its memory."""
    plain = type(parameter) in (torch.nn.Parameter, torch.Tensor)
    if not plain or parameter.device.type != "cpu" or parameter.layout != torch.strided:
        return None
    count = parameter.numel()
    stored = parameter.untyped_storage().nbytes() // parameter.element_size()
    if not count or parameter.storage_offset() + count > stored:
        return None
    chosen = min(count, ELEMENTS)
    flat = parameter.detach().as_strided((chosen,), (count // chosen,), parameter.storage_offset())
    return [float(value) for value in flat.tolist()]


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


def _has_compiled() -> bool:
    """Whether torch.compile has been at work; its backward gives all gradients at once."""
    utilities = sys.modules.get("torch._dynamo.utils")
    return bool(getattr(utilities, "counters", {}).get("frames"))
