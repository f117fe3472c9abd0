"""Trials as long as the time of a tune holds them."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from typing import Protocol

from trainprof.profiler.model.plan import Plan
from trainprof.rules.experiments.trial import Trial


class Runner(Protocol):
    """Runs the script once under a plan."""

    def run(self, plan: Plan, steps: int, label: str, seed_shift: int = 0) -> Trial:
        """One trial in a fresh process; `seed_shift` is added to the seeds that the script sets."""


class OutOfTime(Exception):
    """The budget does not hold another trial."""


class TrialBudget:
    """Has trials run, and knows how many more there is time for.

    Args:
        runner: Starts trials.
        steps: Of a trial. budget_s: For all trials together.
        clock: Monotonic seconds.
    """

    def __init__(
        self, runner: Runner, *, steps: int, budget_s: float, clock: Callable[[], float]
    ) -> None:
        self._runner = runner
        self._steps = steps
        self._clock = clock
        self._until = clock() + budget_s
        self._trial_s: list[float] = []

    def trial(self, plan: Plan, label: str, seed_shift: int = 0, steps: int | None = None) -> Trial:
        """One trial, of other than the usual steps where asked.

        Raises:
            OutOfTime: What is left is shorter than most trials were.
        """
        if not self.holds(1):
            raise OutOfTime
        started = self._clock()
        trial = self._runner.run(plan, steps or self._steps, label, seed_shift)
        self._trial_s.append(trial.took_s or self._clock() - started)
        return trial

    def pair(self, arms: Sequence[tuple[Plan, str]]) -> list[Trial]:
        """The two trials of a pair; the first alone where it failed.

        What an interrupted tune left of a pair is too old to be half of one now.

        Args:
            arms: Plan and label of each, in the order in which they run.

        Raises:
            OutOfTime: As `trial` does.
        """
        trials = []
        for plan, label in arms:
            trials.append(self.trial(plan, label))
            if trials[-1].seconds is None:
                return trials
        if trials[0].earlier and not trials[1].earlier:
            trials[0] = self.trial(*arms[0])
        return trials if trials[0].seconds is not None else trials[:1]

    @property
    def left_s(self) -> float:
        """Seconds left; 0 where they are used up."""
        return max(self._until - self._clock(), 0.0)

    def holds(self, trials: float) -> bool:
        """Whether there is time for so many, if they take as long as those so far."""
        needed_s = trials * (statistics.median(self._trial_s) if self._trial_s else 0.0)
        return needed_s <= self.left_s
