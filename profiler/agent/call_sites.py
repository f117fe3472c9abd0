"""Which lines of the user's source call torch's functions, seen during one step.

`sys.setprofile` for one step, in the training thread alone: about 0.3 us for each call that Python
makes meanwhile. Operators written as signs (`a @ b`) are no calls, and remain unseen.
"""

from __future__ import annotations

import sys
import threading
from collections import Counter
from types import FrameType
from typing import Any

from .guard import attempt
from .location import absolute_path, is_user_file

MOST_LINES = 400
_MOST_FRAMES = 40


class CallSites:
    """Counts calls of torch's built-in functions by function and user line."""

    def __init__(self) -> None:
        self._calls: Counter[tuple[str, str, int, str, bool]] = Counter()
        self._thread = 0

    def start(self) -> bool:
        """Begins, unless somebody else profiles or traces this thread."""
        if sys.getprofile() is not None or sys.gettrace() is not None:
            return False
        self._thread = threading.get_ident()
        sys.setprofile(self._on_event)
        return True

    def stop(self) -> None:
        """Ends it, in the thread that started it."""
        if self._thread == threading.get_ident() and sys.getprofile() == self._on_event:
            sys.setprofile(None)
        self._thread = 0

    def lines(self) -> list[list[Any]]:
        """Rows of function, file, line, function around it, direct, calls; most frequent first.

        Direct is a call that stands in that line itself, not in a library that it calls.
        """
        return [
            [name, absolute_path(file), line, function, direct, count]
            for (name, file, line, function, direct), count in self._calls.most_common(MOST_LINES)
        ]

    def _on_event(self, frame: FrameType, event: str, argument: Any) -> None:
        if event == "c_call":
            attempt("call sites", self._note, frame, argument)

    def _note(self, frame: FrameType, function: Any) -> None:
        name = function.__name__
        if not name or name.startswith("_") or not _is_torch(function):
            return
        caller: FrameType | None = frame
        for _ in range(_MOST_FRAMES):
            if caller is None or is_user_file(caller.f_code.co_filename):
                break
            caller = caller.f_back
        if caller is not None and is_user_file(caller.f_code.co_filename):
            code = caller.f_code
            site = (name, code.co_filename, caller.f_lineno, code.co_name, caller is frame)
            self._calls[site] += 1


def _is_torch(function: Any) -> bool:
    module = getattr(function, "__module__", None)
    if module is not None:
        return bool(module.startswith("torch"))
    owner = getattr(function, "__self__", None)
    kind = owner if isinstance(owner, type) else type(owner)
    return bool(kind.__module__.startswith("torch"))
