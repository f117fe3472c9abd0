"""Keeps the agent's frames out of the tracebacks that the user reads.

An exception that passes one of our wrappers carries its frame. What prints it - the interpreter at
the end, `traceback`, `logging`, torch's workers - sees the chain without us, so that the output of
a failing script is the same as without trainprof, byte for byte.
"""

from __future__ import annotations

import os
import sys
import traceback
from types import TracebackType
from typing import Any

from .patching import Patches

_OURS = os.path.join(os.path.dirname(os.path.abspath(__file__)), "")


def install(patches: Patches) -> None:
    """Patches `sys.excepthook` and `traceback.TracebackException`."""
    patches.replace(sys, "excepthook", _excepthook)
    patches.replace(traceback.TracebackException, "__init__", _traceback_exception)


def without_our_frames(head: TracebackType | None) -> TracebackType | None:
    """The same traceback objects, with ours unlinked."""
    while head is not None and _is_ours(head):
        head = head.tb_next
    entry = head
    while entry is not None:
        following = entry.tb_next
        while following is not None and _is_ours(following):
            following = following.tb_next
        if following is not entry.tb_next:
            entry.tb_next = following
        entry = following
    return head


def clean(error: BaseException | None) -> None:
    """Unlinks our frames from an exception and from those it was raised in the course of."""
    seen: set[int] = set()
    waiting = [error]
    while waiting:
        current = waiting.pop()
        if current is None or id(current) in seen:
            continue
        seen.add(id(current))
        if current.__traceback__ is not None:
            current.__traceback__ = without_our_frames(current.__traceback__)
        waiting += [current.__cause__, current.__context__]
        waiting += getattr(current, "exceptions", ())  # an exception group


def _is_ours(entry: TracebackType) -> bool:
    return entry.tb_frame.f_code.co_filename.startswith(_OURS)


def _excepthook(original: Any) -> Any:
    def excepthook(kind: Any, error: Any, trace: Any) -> Any:
        clean(error)
        return original(kind, error, getattr(error, "__traceback__", None) or trace)

    return excepthook


def _traceback_exception(original: Any) -> Any:
    def __init__(this: Any, kind: Any, error: Any, trace: Any, *args: Any, **kwargs: Any) -> None:
        clean(error)
        original(this, kind, error, without_our_frames(trace), *args, **kwargs)

    return __init__
