"""linear-int8."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from .linear_layers import LinearLayers

LEAST_CAPABILITY = (8, 0)
"""Ampere: torchao measured its gain there and on Ada; its kernel is written in Triton."""


class LinearInt8(LinearLayers):
    """Linear layers multiply in 8-bit integers, forward and backward, by torchao.

    Each row gets a scale of its own at each call. Weights stay what they are; parameters,
    optimizers and checkpoints are untouched. Layers whose dimensions are not both divisible by 16
    stay. Without torch.compile the conversions cost more than is gained: combine it with
    `model-compile`. It is for devices without float8.

    Semantics: 256 values for a row of gradients are few, and where a training in them ends is not
    seen in a few hundred steps; torchao calls it a prototype.

    Refused without torchao, on devices other than CUDA's of compute capability 8.0, and where the
    first forward fails with it (all is put back).
    """

    id = "linear-int8"
    title = "Linear layers in 8-bit integers"
    by_hand = (
        "torchao.quantization.quantize_(model, torchao.prototype.quantized_training."
        "int8_mixed_precision_training()), before torch.compile"
    )

    def _why_not_on(self, device: Any) -> str | None:
        torch = self._torch
        if device.type != "cuda" or getattr(torch.version, "hip", None):
            name = (
                "AMD's devices have" if device.type == "cuda" else f"the device {device.type} has"
            )
            return f"{name} no product of 8-bit integers that torchao trains with"
        found = tuple(torch.cuda.get_device_capability(device))
        if found >= LEAST_CAPABILITY:
            return None
        return f"it needs compute capability 8.0, and this device has {found[0]}.{found[1]}"

    def _exchange(self, layers: list[tuple[Any, str, Any]]) -> Iterator[Any]:
        prototype = import_module("torchao.prototype.quantized_training")
        quantize = import_module("torchao.quantization").quantize_
        # The layers change their class: with torchao's default the weights become other objects.
        config = prototype.int8_mixed_precision_training(module_swap=True)
        for _, _, one in layers:
            quantize(one, config)
            one.__class__ = _settled(self._torch, type(one))
            yield one


def _settled(torch: Any, kind: Any) -> Any:
    """The class with inputs and gradients in one piece, without which torchao's raises."""

    class InOnePiece(torch.autograd.Function):  # type: ignore[misc]
        @staticmethod
        def forward(context: Any, x: Any) -> Any:
            return x.view_as(x)

        @staticmethod
        def backward(context: Any, gradient: Any) -> Any:
            return gradient.contiguous()

    class Settled(kind):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return InOnePiece.apply(super().forward(x.contiguous()))

    Settled.__name__ = Settled.__qualname__ = kind.__name__
    return Settled
