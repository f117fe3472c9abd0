"""gc-manual-off."""

from __future__ import annotations

import gc
import sys
from collections.abc import Mapping
from types import FrameType
from typing import Any

from ...profiler.agent.location import is_user_file
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .source_edit import RemovedCall, SourceEdit

RARELY = 10
"""Updates between two calls of one line; calls as rare as that are left alone."""
_PACKAGE = f"{__name__.partition('.')[0]}."


class GcManualOff(Fix):
    """`gc.collect()` in the training loop does nothing, where the script's own file calls it.

    Python's automatic collections go on. The first call of a line is made, and so are calls that
    come less often than each tenth update, calls by libraries, and all calls while the script has
    automatic collection switched off.
    """

    id = "gc-manual-off"
    title = "No gc.collect() in the loop"
    safety = "safe"
    parameters: Mapping[str, type] = {}
    verifies = ("step.gc_share", "down")

    def install(self, process: Process) -> None:
        """Wraps `gc.collect`."""
        self._updates = self._skipped = self._made = 0
        self._latest: dict[tuple[str, int], int] = {}  # line -> updates when it last called
        process.patches.replace(gc, "collect", self._wrap)
        process.after_update(self._count)

    def _count(self) -> None:
        self._updates += 1

    def _wrap(self, original: Any) -> Any:
        def collect(*args: Any, **kwargs: Any) -> int:
            line = _calling_line()
            if line is not None and self._is_in_loop(line) and gc.isenabled():
                self._skipped += 1
                return 0
            self._made += line is not None
            return int(original(*args, **kwargs))

        return like(original, collect)

    def _is_in_loop(self, line: tuple[str, int]) -> bool:
        before = self._latest.get(line)
        self._latest[line] = self._updates
        return bool(self._updates) and before is not None and self._updates - before < RARELY

    def read_back(self) -> ReadBack:
        """How many calls were left out."""
        seen = {"left_out": self._skipped, "made": self._made}
        if self._skipped:
            return ReadBack(True, seen)
        if self._made and not gc.isenabled():
            return ReadBack(False, seen, "automatic collection is off, so these calls are needed")
        if self._updates < 2 * RARELY:
            return ReadBack(None, seen, "too few updates were made")
        return ReadBack(False, seen, "the script's own file does not call gc.collect() in the loop")

    def edit(self) -> SourceEdit:
        """The call in the loop goes."""
        return RemovedCall("gc", "collect")


def _calling_line() -> tuple[str, int] | None:
    """File and line of the call, if the script itself makes it and no library."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and str(frame.f_globals.get("__name__", "")).startswith(_PACKAGE):
        frame = frame.f_back  # the agent's own wrapper
    if frame is None or not is_user_file(frame.f_code.co_filename):
        return None
    return frame.f_code.co_filename, frame.f_lineno
