"""one-layout."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from .fix import Fix, Process, ReadBack
from .module_state import restorer
from .nested import Nested
from .root_calls import RootCalls

IMAGE_DIMENSIONS = 4


class OneLayout(Fix):
    """Convolutions over images keep the channels last: weights, inputs, and all in between.

    Weights of root modules that train are laid out anew when they are first called, batches of
    images at each call; what a module gives is laid out as before. Often faster on GPUs with half
    precision, often slower on the CPU: only the pairs of a tune tell.

    Refused without a Conv2d, for parameters that an optimizer has state of, for TorchScript, and
    where the forward fails with it (`view` of features that are not contiguous): all is put back.
    """

    id = "one-layout"
    title = "Channels last"
    safety = "numerics"
    parameters: Mapping[str, type] = {}
    by_hand = "model.to(memory_format=torch.channels_last), and the same for each batch of images"

    def install(self, process: Process) -> None:
        """Wraps the calls of root modules."""
        self._torch = torch = process.torch
        self._nested = Nested(torch.Tensor)
        self._roots: weakref.WeakSet[Any] = weakref.WeakSet()
        self._tried: weakref.WeakSet[Any] = weakref.WeakSet()
        self._refused: str | None = None
        self._calls = self._converted = self._images = self._updates = 0
        RootCalls(process, self._around)
        process.after_update(self._count)

    def _count(self) -> None:
        self._updates += 1

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._calls += 1
        if self._refused is not None:
            return call(*args, **kwargs)
        if module in self._roots:
            return self._in_layout(call, args, kwargs)
        if module in self._tried or not module.training:
            return call(*args, **kwargs)
        self._tried.add(module)
        self._refused = self._why_not(module)
        return (call if self._refused else self._first(module, call))(*args, **kwargs)

    def _why_not(self, module: Any) -> str | None:
        torch = self._torch
        if not any(isinstance(part, torch.nn.Conv2d) for part in module.modules()):
            return "the model has no convolution over images"
        if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
            return "the module is a TorchScript program"
        if self._updates:
            return "its optimizer is already under way"
        return None

    def _first(self, module: Any, call: Callable[..., Any]) -> Callable[..., Any]:
        """A call after which all is as before if it fails."""
        torch = self._torch

        def tried(*args: Any, **kwargs: Any) -> Any:
            random, restore = torch.get_rng_state(), restorer(torch, module)
            with torch.no_grad():
                for parameter in module.parameters():
                    if parameter.dim() == IMAGE_DIMENSIONS:
                        parameter.data = self._laid_out(parameter.data)
                        self._converted += 1
            try:
                result = self._in_layout(call, args, kwargs)
            except (RuntimeError, TypeError, ValueError) as error:
                first = str(error).partition("\n")[0][:160]
                self._refused = f"its forward fails with channels last: {first}"
            else:
                self._roots.add(module)
                return result
            restore()
            torch.set_rng_state(random)
            return call(*args, **kwargs)

        return tried

    def _in_layout(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        args, kwargs = self._nested.changed((args, kwargs), self._counted)
        return self._nested.changed(call(*args, **kwargs), self._back)

    def _counted(self, tensor: Any) -> Any:
        if tensor.dim() != IMAGE_DIMENSIONS or not tensor.is_floating_point():
            return tensor
        self._images += 1
        return self._laid_out(tensor)

    def _laid_out(self, tensor: Any) -> Any:
        return tensor.contiguous(memory_format=self._torch.channels_last)

    def _back(self, tensor: Any) -> Any:
        return tensor.contiguous() if tensor.dim() == IMAGE_DIMENSIONS else tensor

    def read_back(self) -> ReadBack:
        """Whether the weights lie so now, and how many batches were laid out."""
        wanted = self._torch.channels_last
        weights = [
            one.is_contiguous(memory_format=wanted)
            for root in self._roots
            for one in root.parameters()
            if one.dim() == IMAGE_DIMENSIONS
        ]
        seen = {"weights": self._converted, "batches": self._images}
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if not self._calls:
            return ReadBack(None, seen, "no module was called yet")
        if not self._images:
            return ReadBack(False, seen, "no batch of images went into the model")
        if not all(weights):
            return ReadBack(False, seen, "weights were laid out otherwise again")
        return ReadBack(True, seen)
