"""Doing something around the forward of root modules: those called from outside of any other."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from ...profiler.agent.patching import like
from .fix import Process

Around = Callable[[Any, Callable[..., Any], tuple[Any, ...], dict[str, Any]], Any]
"""Takes module, its call, and the call's arguments; returns what the caller is to get."""


class RootCalls:
    """Hands each call of a module with parameters, at depth 0, to a function.

    A call of any other module costs 0.2 us more. Under torch.compile's tracing it steps aside.

    Args:
        process: Whose `nn.Module.__call__` is wrapped.
        around: Called in place of the module; it calls the module itself.
    """

    def __init__(self, process: Process, around: Around) -> None:
        self._around = around
        self._inside = threading.local()  # replicas of DataParallel are called in threads
        self._compiling = process.torch.compiler.is_dynamo_compiling
        self._in_backward = getattr(process.torch._C, "_current_graph_task_id", lambda: -1)
        process.patches.replace(process.torch.nn.Module, "__call__", self._wrap)

    def _wrap(self, original: Any) -> Any:
        around, compiling, inside = self._around, self._compiling, self._inside
        in_backward = self._in_backward

        def __call__(module: Any, /, *args: Any, **kwargs: Any) -> Any:
            if compiling() or getattr(inside, "now", False) or not _has_parameters(module):
                return original(module, *args, **kwargs)
            if in_backward() != -1:  # activation checkpointing computes a part again
                return original(module, *args, **kwargs)

            def call(*args: Any, **kwargs: Any) -> Any:
                return original(module, *args, **kwargs)

            inside.now = True
            try:
                return around(module, call, args, kwargs)
            finally:
                inside.now = False

        return like(original, __call__)


def _has_parameters(module: Any) -> bool:
    """A loss or an activation has none."""
    return next(module.parameters(), None) is not None
