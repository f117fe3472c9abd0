"""Why something that is faster is not kept all the same."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence

from trainprof.rules.experiments.experiment import Experiment
from trainprof.rules.experiments.loss_check import LossCheck, Losses, check_losses
from trainprof.rules.experiments.sample_check import sample_difference
from trainprof.rules.experiments.trial import Trial

MOST_TAIL = 1.2
"""95th percentile of a step, new over old; a gain of the mean that costs the tail is none."""
MOST_MEMORY = 0.9
"""Of the machine's memory."""
OTHER_SEEDS = 3
"""Unchanged runs with other seeds that are made at a time, where a change draws random numbers
otherwise and they are needed to tell whether it does harm."""
MOST_SEEDS = 6


class Acceptance:
    """Asks of what is faster whether it does harm.

    Args:
        baseline: The first unchanged trials; the list may still grow.
        run_with_seed: Makes an unchanged trial with so much added to the script's seeds.
        memory_bytes: Of the machine; None where unknown.
    """

    def __init__(
        self,
        baseline: Sequence[Trial],
        run_with_seed: Callable[[int], Trial],
        memory_bytes: int | None,
    ) -> None:
        self._baseline = baseline
        self._run_with_seed = run_with_seed
        self._memory_bytes = memory_bytes
        self._seeded: list[Losses] = []

    def objection(self, experiment: Experiment) -> str | None:
        """A sentence, None where nothing speaks against keeping it."""
        experiment.loss = self._check_losses(experiment)
        if experiment.loss.passed is not True:
            return f"loss check: {experiment.loss.text}"
        reason = self._other_samples(experiment) or _not_its_own(experiment)
        if reason is not None:
            return reason
        old = [trial.p95_s for trial in experiment.unchanged if trial.p95_s]
        new = [trial.p95_s for trial in experiment.changed if trial.p95_s]
        if old and new and statistics.median(new) > MOST_TAIL * statistics.median(old):
            return "its slow steps are slower than before"
        held = [trial.memory_bytes for trial in experiment.changed if trial.memory_bytes]
        if held and self._memory_bytes and max(held) > MOST_MEMORY * self._memory_bytes:
            return "it needs nearly all of the memory"
        return None

    def _unchanged(self, experiment: Experiment) -> list[Trial]:
        """All trials of the arm that it is held against."""
        if experiment.base:
            return experiment.unchanged
        return [*self._baseline, *experiment.unchanged]

    def _check_losses(self, experiment: Experiment) -> LossCheck:
        """Also makes the runs with other seeds, where only these can tell."""
        while True:
            check = check_losses(
                [trial.losses for trial in self._unchanged(experiment)],
                [trial.losses for trial in experiment.changed],
                safety=experiment.safety,
                rounding=experiment.rounding,
                seeded=[self._baseline[0].losses, *self._seeded],
            )
            if check.passed or not check.by_seeds or len(self._seeded) >= MOST_SEEDS:
                return check
            if not self._baseline[0].seed_calls:
                return check  # it sets no seed, so equal runs have told already
            for _ in range(OTHER_SEEDS):
                self._seeded.append(self._run_with_seed(len(self._seeded) + 1).losses)

    def _other_samples(self, experiment: Experiment) -> str | None:
        """Whether samples are left out or repeated, which only semantics may."""
        if experiment.safety == "semantics":
            return None
        return sample_difference(
            [trial.samples for trial in self._unchanged(experiment)],
            [trial.samples for trial in experiment.changed],
            same_order=experiment.rounding,
        )


def _not_its_own(experiment: Experiment) -> str | None:
    """Where the share that a fix is for does not go where the fix sends it.

    Asked of one fix by itself only, as one share grows where another shrinks.
    """
    if len(experiment.candidates) > 1 or experiment.candidates[0].verifies is None:
        return None
    signal, direction = experiment.candidates[0].verifies
    old = [trial.shares[signal] for trial in experiment.unchanged if signal in trial.shares]
    new = [trial.shares[signal] for trial in experiment.changed if signal in trial.shares]
    if not old or not new:
        return None
    change = statistics.median(new) - statistics.median(old)
    moved = change < 0 if direction == "down" else change > 0
    return None if moved else f"{signal} did not go {direction}, so the gain is not its own"
