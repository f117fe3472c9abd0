"""Parameters and buffers of a module, to be put back as they were. Standard library only."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any


def restorer(torch: Any, module: Any) -> Callable[[], None]:
    """Gives a function that puts parameters and buffers back as they are now."""
    parameters = [(one, one.detach().clone()) for one in module.parameters()]
    buffers = [
        (part, name, one, one.clone())
        for part in module.modules()
        for name, one in part._buffers.items()
        if one is not None
    ]

    def restore() -> None:
        for parameter, values in parameters:
            parameter.data = values
        with torch.no_grad():
            for part, name, one, values in buffers:  # others have been put in their place
                one.copy_(values)
                part._buffers[name] = one

    return restore
