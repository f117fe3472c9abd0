"""flush-denormal."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .source_edit import ScriptCall, SourceEdit


class FlushDenormal(Fix):
    """The CPU takes numbers below 1.2e-38 for zero.

    The switch belongs to a thread, and threads take it over when they are started: it is set when
    torch has been imported, before the first computation. Workers of a loader inherit it. What the
    script sets later is overruled, as it is what was measured.
    """

    id = "flush-denormal"
    title = "Subnormal numbers are zero"
    safety = "numerics"
    parameters: Mapping[str, type] = {"flush_denormal": bool}

    def install(self, process: Process) -> None:
        """Sets the switch and keeps it."""
        self._flushes: bool | None = None
        self._original = process.torch.set_flush_denormal
        self._supported = bool(self._original(True))
        process.patches.replace(process.torch, "set_flush_denormal", self._keep)
        process.after_update(self._look)

    def _keep(self, original: Any) -> Any:
        def set_flush_denormal(mode: bool) -> bool:
            return bool(original(True))

        return like(original, set_flush_denormal)

    def _look(self) -> None:
        """In the training thread; torch has no getter, but Python's floats obey it too."""
        self._flushes = _half(sys.float_info.min) == 0.0

    def read_back(self) -> ReadBack:
        """Whether the training thread halves the smallest normal number to zero."""
        if not self._supported:
            return ReadBack(False, {}, "this CPU has no such switch")
        if self._flushes is None:
            return ReadBack(None, {}, "no update was made")
        reason = None if self._flushes else "something switched it off"
        return ReadBack(self._flushes, {"flush_denormal": self._flushes}, reason)

    def edit(self) -> SourceEdit:
        """The same call, after the imports."""
        return ScriptCall("torch", "set_flush_denormal", True)


def _half(number: float) -> float:
    """In a function, so that Python does not compute it when it compiles."""
    return number / 2.0
