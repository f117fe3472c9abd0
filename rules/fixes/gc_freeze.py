"""gc-freeze."""

from __future__ import annotations

import gc
from collections.abc import Mapping

from .fix import Fix, Process, ReadBack
from .source_edit import AroundLoop

AFTER_UPDATES = 5
"""By then model, optimizer state and data set are there."""


class GcFreeze(Fix):
    """What lives for ever is taken out of the garbage collector's sight, once, after a few updates.

    Nothing is collected less; the collector has less to look through.
    """

    id = "gc-freeze"
    title = "Garbage collector: freeze what stays"
    safety = "safe"
    parameters: Mapping[str, type] = {"freeze": bool}
    verifies = ("step.gc_share", "down")

    def install(self, process: Process) -> None:
        """Counts updates, then freezes."""
        self._updates = 0
        process.after_update(self._count)

    def _count(self) -> None:
        self._updates += 1
        if self._updates == AFTER_UPDATES:
            gc.collect()
            gc.freeze()

    def read_back(self) -> ReadBack:
        """How many objects are frozen."""
        if self._updates < AFTER_UPDATES:
            return ReadBack(None, reason=f"fewer than {AFTER_UPDATES} updates were made")
        frozen = gc.get_freeze_count()
        return ReadBack(frozen > 0, {"frozen": frozen}, None if frozen else "it was undone")

    def edit(self) -> AroundLoop:
        """Before the loop: of what lives for ever, only the optimizer's state is made later."""
        return AroundLoop("gc", before=("gc.collect()", "gc.freeze()"))
