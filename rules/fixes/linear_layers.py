"""What fixes share that let linear layers of a model compute in 8 bits. Standard library only."""

from __future__ import annotations

import warnings
import weakref
from collections.abc import Callable, Iterator, Mapping
from importlib.util import find_spec
from typing import Any

from .fix import Fix, Process, ReadBack
from .root_calls import RootCalls

MULTIPLE = 16
"""Both dimensions of a layer, as the tensor cores take them in 8 bits."""
FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, OSError, ImportError)
"""What a library's conversion and the first forward with it can end in."""
HOOKS = ("_forward_hooks", "_forward_pre_hooks", "_backward_hooks", "_backward_pre_hooks")


class LinearLayers(Fix):
    """Exchanges linear layers of root modules at their first call in training.

    The parameters stay the objects they were: optimizers, their states and checkpoints are as
    without it.
    """

    safety = "semantics"
    parameters: Mapping[str, type] = {}

    def install(self, process: Process) -> None:
        """Wraps the calls of root modules."""
        self._torch = process.torch
        self._tried: weakref.WeakSet[Any] = weakref.WeakSet()
        self._layers: list[Callable[[], Any]] = []  # weak references
        self._root: Callable[[], Any] | None = None
        self._refused: str | None = None
        self._seen: dict[str, Any] = {}
        RootCalls(process, self._around)

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._refused is not None or not module.training or module in self._tried:
            return call(*args, **kwargs)
        self._tried.add(module)
        layers = self._chosen(module)
        self._refused = self._why_not(module, [one for _, _, one in layers])
        if self._refused is not None:
            return call(*args, **kwargs)
        return self._first(module, layers, call, args, kwargs)

    def _chosen(self, module: Any) -> list[tuple[Any, str, Any]]:
        """Parent, name and layer of those that can be exchanged."""
        return [
            (parent, name, one)
            for parent in module.modules()
            for name, one in parent.named_children()
            if self._fits(one)
        ]

    def _fits(self, layer: Any) -> bool:
        torch = self._torch
        if type(layer) is not torch.nn.Linear or any(getattr(layer, name) for name in HOOKS):
            return False
        weight = layer.weight
        return (
            type(weight) is torch.nn.Parameter
            and weight.dtype in (torch.float32, torch.bfloat16, torch.float16)
            and all(size % MULTIPLE == 0 for size in weight.shape)
            and "forward" not in vars(layer)
        )

    def _why_not(self, module: Any, layers: list[Any]) -> str | None:
        if find_spec("torchao") is None:
            return "not here, because torchao is not installed"
        for device in {one.device for one in module.parameters()}:
            reason = self._why_not_on(device)
            if reason is not None:
                return f"not here, because {reason}"
        if not layers:
            return (
                "not here, because no linear layer inside the model has dimensions that are "
                f"both divisible by {MULTIPLE}"
            )
        return None

    def _why_not_on(self, device: Any) -> str | None:
        """Why a device does not multiply in 8 bits."""
        raise NotImplementedError

    def _first(
        self, module: Any, layers: list[Any], call: Callable[..., Any], args: Any, kwargs: Any
    ) -> Any:
        """The first call is tried; where it fails all is as before it."""
        torch = self._torch
        random = torch.get_rng_state()
        buffers = [(one, one.clone()) for one in module.buffers()]
        classes = [(one, type(one)) for _, _, one in layers]
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                new = list(self._exchange(layers))
            torch.set_rng_state(random)  # a layer that is made draws weights
            result = call(*args, **kwargs)
        except FAILURES as error:
            first = str(error).partition("\n")[0][:160]
            self._refused = f"not here, because its first forward in 8 bits fails: {first}"
        else:
            self._layers = [weakref.ref(one) for one in new]
            self._root = weakref.ref(module)
            self._seen = {"kind": type(new[0]).__name__, "compiled": _is_compiled(module)}
            return result
        for parent, name, one in layers:
            setattr(parent, name, one)
        for one, kind in classes:
            one.__class__ = kind
        with torch.no_grad():
            for one, values in buffers:
                one.copy_(values)
        torch.set_rng_state(random)
        return call(*args, **kwargs)

    def _exchange(self, layers: list[tuple[Any, str, Any]]) -> Iterator[Any]:
        """Puts other layers in their places, and gives them."""
        raise NotImplementedError

    def read_back(self) -> ReadBack:
        """How many of the exchanged layers the model holds now."""
        seen = dict(self._seen)
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        root = self._root() if self._root is not None else None
        if self._root is None:
            return ReadBack(None, seen, "no module was called in training yet")
        if root is None:  # the training is over, and its model gone
            return ReadBack(True, {**seen, "layers": len(self._layers)})
        held = {id(one) for one in root.modules()}
        layers = [one() for one in self._layers]
        left = sum(one is not None and id(one) in held for one in layers)
        seen["layers"] = left
        if left < len(self._layers):
            return ReadBack(False, seen, "the script has put other layers in their places")
        return ReadBack(True, seen)


def _is_compiled(module: Any) -> bool:
    wrapped = getattr(module, "_compiled_call_impl", None) is not None
    return wrapped or any(hasattr(one, "_orig_mod") for one in module.modules())
