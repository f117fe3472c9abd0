"""Parameters that tell who reads their gradient. Standard library only."""

from __future__ import annotations

import sys
from collections.abc import Callable
from typing import Any

from ...profiler.agent import guard

LIBRARY = f"{__name__.partition('.')[0]}.profiler."
FIXES = __name__.rpartition(".")[0]


def listening_parameter(torch: Any, collector: str, on_read: Callable[[Any], None]) -> type:
    """A Parameter that calls `on_read` before it gives its gradient; its class can be set.

    Args:
        torch: The user's.
        collector: Under which an error of `on_read` is written down.
        on_read: Takes the parameter; it may change the gradient that is read.
    """
    plain = torch._C.TensorBase.grad

    def read(parameter: Any) -> Any:
        guard.attempt(collector, on_read, parameter)
        return plain.__get__(parameter)

    grad = property(read, plain.__set__, plain.__delete__)
    return type("Parameter", (torch.nn.Parameter,), {"grad": grad})


def reader_is(*modules: str) -> bool:
    """Whether the gradient is read by one of these modules, or by trainprof itself.

    To be called by `on_read` itself.
    """
    reader = sys._getframe(4)  # behind on_read, guard and property
    return str(reader.f_globals.get("__name__")).startswith((*modules, LIBRARY, FIXES))
