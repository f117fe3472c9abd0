"""gc-paced."""

from __future__ import annotations

import gc
from collections.abc import Mapping

from .fix import Fix, Process, ReadBack
from .source_edit import AroundLoop

COLLECT_EVERY_STEPS, GENERATION = 1000, 1
"""Unless a plan says otherwise."""


class GcPaced(Fix):
    """Python's collector runs at a pace of steps instead of whenever enough objects were made.

    Automatic collection is off from the first update on; the young generations are collected every
    so many updates. A training makes hardly any cyclic garbage; one that does needs more memory.
    """

    id = "gc-paced"
    title = "Garbage collector: at a pace of steps"
    safety = "safe"
    parameters: Mapping[str, type] = {"collect_every_steps": int, "generation": int}
    verifies = ("step.gc_share", "down")

    def install(self, process: Process) -> None:
        """Counts updates."""
        self._updates = 0
        self._every, self._generation = self._pace()
        process.after_update(self._count)

    def _pace(self) -> tuple[int, int]:
        every = self.params.get("collect_every_steps", COLLECT_EVERY_STEPS)
        return max(every, 1), self.params.get("generation", GENERATION)

    def _count(self) -> None:
        self._updates += 1
        if self._updates == 1:
            gc.disable()
        if self._updates % self._every == 0:
            gc.collect(self._generation)

    def read_back(self) -> ReadBack:
        """Whether automatic collection is off."""
        if not self._updates:
            return ReadBack(None, reason="no update was made")
        automatic = gc.isenabled()
        return ReadBack(
            not automatic, {"automatic": automatic}, "the script enables it" if automatic else None
        )

    def edit(self) -> AroundLoop:
        """Off before the loop, and a collection by the loop's own counter."""
        every, generation = self._pace()
        return AroundLoop(
            "gc",
            before=("gc.disable()",),
            each_step=(f"if {{step}} % {every} == 0:", f"    gc.collect({generation})"),
        )
