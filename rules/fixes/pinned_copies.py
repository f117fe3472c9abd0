"""Copies from page-locked memory to a device that do not wait. Standard library only."""

from __future__ import annotations

import weakref
from collections import deque
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like

WATCHED = 64
"""Latest copies of which the source is looked at again."""


class PinnedCopies:
    """Wrappers of `Tensor.to` and `Tensor.cuda`.

    Args:
        torch: The user's torch.

    Attributes:
        count: Copies that did not wait.
        written: A sentence, once a tensor was written to after it was copied.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._sources: deque[tuple[weakref.ref[Any], int]] = deque(maxlen=WATCHED)
        self.count = 0
        self.written: str | None = None

    def to(self, original: Any) -> Any:
        """Wraps `Tensor.to`."""

        def to(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if self._is_source(tensor):
                copy = guard.attempt("fix loader-pinned", self._asked, tensor, args, kwargs)
                if copy is not None:
                    return self._copied(tensor, original(tensor, *copy, non_blocking=True))
            return original(tensor, *args, **kwargs)

        return like(original, to)

    def cuda(self, original: Any) -> Any:
        """Wraps `Tensor.cuda`."""

        def cuda(tensor: Any, *args: Any, **kwargs: Any) -> Any:
            if len(args) < 2 and not kwargs.get("non_blocking") and self._is_source(tensor):
                kwargs = {**kwargs, "non_blocking": True}
                return self._copied(tensor, original(tensor, *args, **kwargs))
            return original(tensor, *args, **kwargs)

        return like(original, cuda)

    def _is_source(self, tensor: Any) -> bool:
        if self.written is not None or tensor.device.type != "cpu":
            return False
        return bool(tensor.is_pinned())

    def _asked(self, tensor: Any, args: Any, kwargs: Any) -> tuple[Any, Any] | None:
        """Device and type of a copy that would wait; None for any other call."""
        if "copy" in kwargs or "memory_format" in kwargs or len(args) > 2:
            return None
        device, dtype, non_blocking, _ = self._torch._C._nn._parse_to(*args, **kwargs)
        if device is None or device.type == "cpu" or non_blocking:
            return None
        return device, dtype or tensor.dtype

    def _copied(self, tensor: Any, result: Any) -> Any:
        self.count += 1
        for reference, version in self._sources:
            source = reference()
            if source is not None and source._version != version:
                self.written = "the script writes into a batch after it was copied to the device"
        self._sources.append((weakref.ref(tensor), tensor._version))
        return result
