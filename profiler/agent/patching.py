"""Patches that can be undone: what is replaced, by what, and how it was before."""

from __future__ import annotations

import sys
from collections.abc import Callable
from types import FunctionType
from typing import Any

_ABSENT = object()


class Patches:
    """Every attribute the agent has replaced, in order; `undo` restores them in reverse."""

    def __init__(self) -> None:
        self._applied: list[tuple[Any, str, Any, Any]] = []

    def replace(self, owner: Any, name: str, make: Callable[[Any], Any]) -> None:
        """Sets `owner.name` to `make(original)`; the original may be inherited.

        Raises:
            AttributeError: `owner` has no attribute `name`.
        """
        original = getattr(owner, name)
        before = vars(owner).get(name, _ABSENT) if hasattr(owner, "__dict__") else original
        replacement = make(original)
        setattr(owner, name, replacement)
        self._applied.append((owner, name, before, replacement))

    def undo(self) -> None:
        """Restores every attribute that still holds our replacement; later patches by others stay.

        Where somebody wrapped our wrapper, it keeps working: wrappers of the agent pass straight
        through once the recorder is closed.
        """
        while self._applied:
            owner, name, before, replacement = self._applied.pop()
            current = vars(owner).get(name, _ABSENT)
            if current is not replacement:
                continue
            if before is _ABSENT:
                delattr(owner, name)
            else:
                setattr(owner, name, before)


def like(original: Any, wrapper: Any) -> Any:
    """Gives the wrapper the original's name and documentation, and hides it from torch.compile."""
    for name in ("__module__", "__name__", "__qualname__", "__doc__"):
        value = getattr(original, name, None)
        if value is not None:
            setattr(wrapper, name, value)
    wrapper.__wrapped__ = original
    hide_from_compiler(wrapper)
    return wrapper


def hide_from_compiler(function: Any, *, with_callees: bool = False) -> None:
    """Keeps dynamo from compiling a frame of ours by itself.

    Frames of torch's own files are passed over by dynamo; a wrapper around them is not, so that a
    module which dynamo would have left alone (`Sequential.compile()`) would be compiled in parts.

    Args:
        function: Any Python function.
        with_callees: Also what it calls; for functions that call nothing of the user's.
    """
    torch = sys.modules.get("torch")
    dynamo = getattr(getattr(torch, "_C", None), "_dynamo", None)
    frames: Any = getattr(dynamo, "eval_frame", None)
    if hasattr(frames, "skip_code"):  # older torch
        frames.skip_code(function.__code__)
    elif hasattr(frames, "set_code_exec_strategy"):
        action = frames._FrameAction
        after = action.SKIP if with_callees else action.DEFAULT
        strategy = frames._FrameExecStrategy(action.SKIP, after)
        frames.set_code_exec_strategy(function.__code__, strategy)


def hide_methods_from_compiler(cls: type) -> None:
    """Hides every method of a class of ours, and what they call."""
    for member in vars(cls).values():
        if isinstance(member, FunctionType):
            hide_from_compiler(member, with_callees=True)
