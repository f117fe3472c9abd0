"""Whether an operator of a library's can compute on a device, as torch's dispatcher knows it.

Standard library only.
"""

from __future__ import annotations

from typing import Any

KEYS = {"cpu": "CPU", "cuda": "CUDA", "xpu": "XPU", "mps": "MPS", "hpu": "HPU"}
"""Type of device -> the dispatcher's name of it."""


def has_kernel(torch: Any, operator: str, device: str) -> bool:
    """Of an operator that torch does not know, "cuda" is believed.

    bitsandbytes registers its operators since 0.46; before, it called CUDA without torch.
    """
    key = KEYS.get(device)
    try:
        return key is not None and bool(
            torch._C._dispatch_has_kernel_for_dispatch_key(operator, key)
        )
    except (RuntimeError, AttributeError):
        return device == "cuda"
