"""What is recorded of a pair of trials."""

from __future__ import annotations

from collections.abc import Sequence

from trainprof.profiler.model.tuning import Pair
from trainprof.rules.experiments.trial import Trial

FAILED = "a trial failed"


def pair_of(trials: Sequence[Trial], *, old_first: bool, left_out: str | None) -> Pair:
    """The record of a pair.

    Args:
        trials: In the order in which they ran; the first alone where it failed.
        old_first: The first is the one without what is tried.
        left_out: Why the pair does not count, if so.
    """
    steps = [trial.step_s for trial in trials] + [None] * (2 - len(trials))
    seconds = [trial.seconds for trial in trials] + [None] * (2 - len(trials))
    (old_step_s, new_step_s), (old_s, new_s) = (
        values if old_first else values[::-1] for values in (steps, seconds)
    )
    return Pair(
        first="old" if old_first else "new",
        old_step_s=old_step_s,
        new_step_s=new_step_s,
        ratio=None if old_s is None or new_s is None else old_s / new_s,
        left_out=left_out,
    )
