"""Whether a published architecture begins its training with the weights of its constructor.

Normalising layers tell it: constructors set their weights to exactly one (or zero) and their biases
to exactly zero, and no layer that was ever trained, loaded from wherever, has these values left.
They are read once, in the training thread before the first update, and only in a process that uses
one of the libraries which publish weights: 10 us a layer, of at most 32. What lies on a device is
not read, as that waits for it.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any

from ..model.facts import StartFact
from .compared_values import some_values
from .describe.naming import type_name

MODELS = ("timm.models.", "torchvision.models.", "transformers.models.")
"""Packages whose models have published weights."""
MOST_NORMS = 32


class StartWeights:
    """Looked at before the first update of a training.

    Args:
        torch: The user's torch.

    Attributes:
        facts: By the number of the root module.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self.facts: dict[int, StartFact] = {}

    def look(self, models: Iterable[tuple[int, Any]]) -> None:
        """Looks at root modules, given with their numbers."""
        for number, model in models:
            found = next(_published(model), None)
            if found is not None:
                self.facts[number] = self._describe(*found)

    def _describe(self, name: str, module: Any) -> StartFact:
        parts = list(module.modules())
        norms = [part for part in parts if _is_norm(part)]
        step = max(1, len(norms) // MOST_NORMS)
        untouched = [self._is_untouched(norm) for norm in norms[::step]]
        read = [one for one in untouched if one is not None]
        nn = self._torch.nn
        convolution = next((part for part in parts if isinstance(part, nn.Conv2d)), None)
        table = next((part for part in parts if isinstance(part, nn.Embedding)), None)
        return {
            "type": type_name(type(module)),
            "name": name,
            "parameters": sum(int(p.numel()) for p in module.parameters() if _is_made(p)),
            "norms": len(read),
            "norms_untouched": sum(read),
            "input_channels": None if convolution is None else int(convolution.in_channels),
            "vocabulary": None if table is None else int(table.num_embeddings),
        }

    def _is_untouched(self, norm: Any) -> bool | None:
        """Whether a layer holds what its constructor wrote; None where it cannot be read."""
        weight, bias = norm.weight, getattr(norm, "bias", None)
        values = some_values(self._torch, weight)
        if values is None:
            return None
        offsets = [] if bias is None else some_values(self._torch, bias)
        if offsets is None:
            return None
        return set(values) in ({1.0}, {0.0}) and set(offsets) <= {0.0}


def _published(model: Any) -> Iterator[tuple[str, Any]]:
    """The outermost modules whose class is one of a library's models."""
    stack = [("", model)]
    while stack:
        name, module = stack.pop()
        if type(module).__module__.startswith(MODELS):
            yield name, module
            continue
        children = [(f"{name}.{n}" if name else n, m) for n, m in module._modules.items()]
        stack += [child for child in reversed(children) if child[1] is not None]


def _is_norm(module: Any) -> bool:
    """By its name: libraries have normalising layers of their own."""
    return "Norm" in type(module).__name__ and getattr(module, "weight", None) is not None


def _is_made(parameter: Any) -> bool:
    return "Uninitialized" not in type(parameter).__name__
