"""validation-autocast."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from .autocast_bf16 import AutocastBf16
from .fix import ReadBack


class ValidationAutocast(AutocastBf16):
    """Forwards in evaluation mode and without gradients run under autocast to bfloat16.

    The training is the same; what the validation reports is rounded otherwise, so a metric that
    decides (early stopping, the best checkpoint) has to be compared once. It is refused where
    `autocast-bf16` is.
    """

    id = "validation-autocast"
    title = "Validation under autocast"
    parameters: Mapping[str, type] = {"dtype": str}
    verifies = ("step.validation_share", "down")
    by_hand = "with torch.inference_mode(), torch.autocast(device, torch.bfloat16):"

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if module.training or self._torch.is_grad_enabled():
            return call(*args, **kwargs)
        return super()._around(module, call, args, kwargs)

    def read_back(self) -> ReadBack:
        """As of autocast-bf16, for the validation's forwards."""
        if not self._calls and self._refused is None:
            return ReadBack(None, reason="nothing was validated without gradients yet")
        return super().read_back()

    def edit(self) -> None:
        """None: where the validation begins and ends is the script's own affair."""
        return
