"""What the agent does in a trial of `tune` and nowhere else: other seeds, and the samples drawn.

`TRAINPROF_TRIAL` makes a run a trial; its value is what is added to the script's seeds.
"""

from __future__ import annotations

import time
from typing import Any

from ..model.records import Fact
from .drawn_samples import DrawnSamples
from .other_seeds import OtherSeeds
from .patching import Patches


class TrialRecords:
    """Does nothing outside of trials.

    Args:
        torch: The user's torch.
        shift: Value of `TRAINPROF_TRIAL`, None where the run is no trial.
    """

    def __init__(self, torch: Any, shift: str | None) -> None:
        self._shift = int(shift) if shift and shift.isdigit() else None
        self._seeds = OtherSeeds(torch, self._shift or 0)
        self._samples = DrawnSamples(torch)

    def install(self, patches: Patches) -> None:
        """Patches what seeds and what draws samples."""
        if self._shift is not None:
            self._seeds.install(patches)
            self._samples.install(patches)

    def uninstall(self) -> None:
        """Ends what `Patches` does not know of."""
        self._seeds.uninstall()

    def after_fork(self) -> None:
        """The child records nothing of its parent's."""
        self._samples.after_fork()

    def facts(self) -> list[Fact]:
        """At the end of the training."""
        if self._shift is None:
            return []
        seeds = {"shift": self._shift, "calls": self._seeds.calls}
        return [Fact("seeds", "seeds", time.perf_counter_ns(), seeds), *self._samples.facts()]
