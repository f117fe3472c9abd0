"""Whether a slow start pays: what it costs once, against what each later step saves."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence

from trainprof.rules.experiments.trial import Trial


def why_it_does_not_pay(
    unchanged: Sequence[Trial], changed: Sequence[Trial], run_steps: int | None
) -> str | None:
    """Why a gain of the steady steps is none of the training; None where it is one.

    The cost is the slowest start of the changed trials (later ones may find a cache), beyond the
    usual one of the unchanged trials; the saving is what the median step is shorter by.

    Args:
        unchanged: Trials of the original.
        changed: Trials with the change.
        run_steps: Steps of the training in daily use; None where nobody knows.
    """
    steps = break_even_steps(unchanged, changed)
    if steps is None:
        return "what its start costs was not measured"
    if run_steps is None:
        return (
            f"its start pays from {steps:,} steps on; say with --run-steps how many the training "
            "does"
        )
    if run_steps < steps:
        return f"its start pays from {steps:,} steps on, and the training does {run_steps:,}"
    return None


def break_even_steps(unchanged: Sequence[Trial], changed: Sequence[Trial]) -> int | None:
    """Steps from which on the changed training is ahead; None where it cannot be told."""
    old_start = [one.start_s for one in unchanged if one.start_s is not None]
    new_start = [one.start_s for one in changed if one.start_s is not None]
    old_step = [one.step_s for one in unchanged if one.step_s is not None]
    new_step = [one.step_s for one in changed if one.step_s is not None]
    if not (old_start and new_start and old_step and new_step):
        return None
    saved_s = statistics.median(old_step) - statistics.median(new_step)
    if saved_s <= 0.0:
        return None
    cost_s = max(max(new_start) - statistics.median(old_start), 0.0)
    return math.ceil(cost_s / saved_s)
