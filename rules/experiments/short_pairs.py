"""Pairs of short trials, by which the settings of a candidate are chosen; they prove nothing."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

from trainprof.rules.experiments.candidates import Candidate
from trainprof.rules.experiments.trial import Trial


@dataclass(frozen=True, slots=True)
class ShortPairs:
    """Measures a candidate beside the script without it.

    Attributes:
        run: Makes a trial of applied fixes and a label. base: Fixes of both arms.
    """

    run: Callable[[tuple[Candidate, ...], str], Trial]
    base: tuple[Candidate, ...]

    def __call__(self, candidate: Candidate, number: int) -> float | None:
        """Log-ratio of pair `number`, old over new time; None where a trial fails."""
        name = f"choice of {candidate.application.fix}"
        arms = [((*self.base, candidate), name), (self.base, f"without {name}")]
        found: dict[str, float] = {}
        for applied, label in reversed(arms) if number % 2 else arms:
            trial = self.run(applied, label)
            if trial.seconds is None:
                return None
            found[label] = trial.seconds
        return math.log(found[f"without {name}"] / found[name])


Choose = Callable[[Candidate, ShortPairs, float], Candidate]
"""Gives the candidate with its best setting, from short pairs and the seconds that are left."""
