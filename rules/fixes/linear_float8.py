"""linear-float8."""

from __future__ import annotations

from collections.abc import Iterator
from importlib import import_module
from typing import Any

from .linear_layers import LinearLayers

LEAST_CAPABILITY = (8, 9)
"""Of NVIDIA's devices; Ada and Hopper have tensor cores for float8 (torchao's requirement)."""
AMD = ("gfx94", "gfx95")
"""Of AMD's: MI300 and MI350."""


class LinearFloat8(LinearLayers):
    """Linear layers multiply in float8, forward and backward, by torchao with a scale for a tensor.

    Weights stay what they are, and so does what is added up; parameters, optimizers and checkpoints
    are untouched. Layers whose dimensions are not both divisible by 16 stay. Without torch.compile
    the casts cost more than is gained: combine it with `model-compile`. Wide layers gain (4,096 and
    more), small ones lose.

    Semantics: three bits of a number are left in each product. Trainings in float8 have followed
    those in bfloat16 for long and diverged then, which no trial of a few hundred steps sees.

    Refused without torchao, on devices other than CUDA's of compute capability 8.9 and AMD's MI300
    and newer, and where the first forward fails with it (all is put back).
    """

    id = "linear-float8"
    title = "Linear layers in float8"
    by_hand = "torchao.float8.convert_to_float8_training(model), before torch.compile"

    def _why_not_on(self, device: Any) -> str | None:
        torch = self._torch
        if device.type != "cuda":
            return f"the device {device.type} has no tensor cores for float8"
        if getattr(torch.version, "hip", None):
            name = str(torch.cuda.get_device_properties(device).gcnArchName)
            return None if name.startswith(AMD) else f"{name.partition(':')[0]} has no float8"
        found = tuple(torch.cuda.get_device_capability(device))
        if found >= LEAST_CAPABILITY:
            return None
        return f"float8 needs compute capability 8.9, and this device has {found[0]}.{found[1]}"

    def _exchange(self, layers: list[tuple[Any, str, Any]]) -> Iterator[Any]:
        library = import_module("torchao.float8")
        # Rows of a batch need not be a multiple of 16: they are filled up for the product.
        config = library.Float8LinearConfig(pad_inner_dim=True)
        for parent, name, one in layers:
            holder = self._torch.nn.ModuleDict({"layer": one})
            library.convert_to_float8_training(holder, config=config)
            new = holder["layer"]
            new.train(one.training)
            setattr(parent, name, new)
            yield new
