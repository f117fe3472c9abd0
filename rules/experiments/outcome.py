"""What a tune has found, for the record and for the plan of what is kept."""

from __future__ import annotations

from dataclasses import dataclass

from trainprof.profiler.model.tuning import Pair
from trainprof.rules.experiments.candidates import Refused
from trainprof.rules.experiments.experiment import Experiment


@dataclass(frozen=True, slots=True)
class Outcome:
    """What a tune found, whole or interrupted.

    Attributes:
        final: The experiment whose ratio is the tune's: the combination, or the only one kept.
        experiments: Of single fixes, in order. combinations: Of several, against the original.
        refused: Fixes that were not tried.
        equal_log_ratios: Of the pairs of unchanged runs that count. equal_pairs: All of them.
        dropped: Pairs left out because a trial had to wait for a CPU.
        ended: "complete", "budget" or "interrupted".
    """

    final: Experiment | None
    experiments: tuple[Experiment, ...]
    refused: tuple[Refused, ...]
    equal_log_ratios: tuple[float, ...]
    ended: str
    combinations: tuple[Experiment, ...] = ()
    dropped: int = 0
    equal_pairs: tuple[Pair, ...] = ()
