"""What a tune tells of its course while it runs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainprof.rules.experiments.experiment import Experiment
from trainprof.rules.statistics.pairs import Ratio


@dataclass(frozen=True, slots=True)
class Progress:
    """What a watcher is told before each trial, or pair of trials.

    Attributes:
        purpose: See `profiler.model.tune_progress.PURPOSES`. candidate: In words.
        experiment: That it belongs to, if it does.
    """

    purpose: str
    candidate: str
    pair: int
    pairs_at_most: int
    ratio: Ratio | None
    left_s: float
    experiment: Experiment | None = None


class Watch:
    """Is told of the noise and of each experiment; this one takes no notice."""

    def noise(self, equal_log_ratios: Sequence[float]) -> None:
        """There is one more pair of unchanged runs."""

    def attempt(self, experiment: Experiment) -> None:
        """It is queued, has another setting or another pair, or is settled."""
