"""profiler-off."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .source_edit import SourceEdit, SwitchedOff

RESULTS = (
    "key_averages",
    "events",
    "export_chrome_trace",
    "export_stacks",
    "export_memory_timeline",
)
"""Methods of `torch.profiler.profile` that give what was recorded."""
OLDER_RESULTS = ("key_averages", "table", "total_average", "export_chrome_trace", "export_stacks")
"""Those of `torch.autograd.profiler.profile`."""


class ProfilerOff(Fix):
    """Profilers of torch's that the script opens record nothing.

    `start`, `step` and `stop` of `torch.profiler.profile`, and the block of
    `torch.autograd.profiler.profile`, do nothing; handlers of finished traces are not called. No
    number of the training changes. Where the script goes on to read what was recorded, it gets an
    empty table or no file, and the fix counts as not in force: that profile is wanted.
    """

    id = "profiler-off"
    title = "The script's profiler off"
    by_hand = (
        "without the profiler, or schedule=torch.profiler.schedule(wait=1, warmup=1, active=3, "
        "repeat=1)"
    )
    safety = "safe"
    parameters: Mapping[str, type] = {"profiler": bool}

    def install(self, process: Process) -> None:
        """Wraps the methods, as scripts have imported the classes already."""
        self._torch = process.torch
        self._opened = 0
        self._wanted: str | None = None
        self._empty = sys.modules["torch.autograd.profiler_util"].EventList
        new = process.torch.profiler.profile
        old = sys.modules["torch.autograd.profiler"].profile
        replace = process.patches.replace
        for name in ("start", "stop", "step"):
            replace(new, name, self._nothing)
        for name in RESULTS:
            if hasattr(new, name):
                replace(new, name, self._no_result(name))
        replace(old, "__enter__", self._enter)
        replace(old, "__exit__", self._exit)
        for name in OLDER_RESULTS:
            if hasattr(old, name):
                replace(old, name, self._no_result(name))

    def _nothing(self, original: Any) -> Any:
        def nothing(profile: Any, *args: Any, **kwargs: Any) -> None:
            self._opened += original.__name__ == "start"

        return like(original, nothing)

    def _enter(self, original: Any) -> Any:
        def __enter__(profile: Any) -> Any:
            self._opened += 1
            return profile

        return like(original, __enter__)

    def _exit(self, original: Any) -> Any:
        def __exit__(profile: Any, *error: Any) -> None:
            """Lets errors through."""

        return like(original, __exit__)

    def _no_result(self, name: str) -> Callable[[Any], Any]:
        def wrap(original: Any) -> Any:
            def no_result(profile: Any, *args: Any, **kwargs: Any) -> Any:
                self._wanted = name
                if name == "table":
                    return ""
                return None if name.startswith("export") else self._empty([])

            return like(original, no_result)

        return wrap

    def read_back(self) -> ReadBack:
        """Whether a profiler was opened, and none records."""
        records = bool(self._torch.autograd._profiler_enabled())
        seen = {"opened": self._opened, "records": records}
        if self._wanted is not None:
            return ReadBack(False, seen, f"the script reads what was recorded ({self._wanted})")
        if not self._opened:
            return ReadBack(False, seen, "the script opens no profiler")
        return ReadBack(True, seen)

    def edit(self) -> SourceEdit:
        """Of the `with` the body stays."""
        return SwitchedOff((), ("profile",))
