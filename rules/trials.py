"""Runs of one script with different arguments, seen as the trials of a search."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np

from trainprof.profiler.store.trials import EarlierRun
from trainprof.rules.logged_metrics import logged_series, lowered, validation_series
from trainprof.rules.statistics.intervals import Floats

CHECKPOINTS = 20
"""Points at which the trials are compared."""
EARLY = 5
"""The checkpoint at a quarter of the budget."""
MOST_LENGTH_RATIO = 1.1
"""Between the numbers of losses: trials of other lengths are another search."""
STARTUP_TRIALS = 5
"""Trials that run to their end before any is pruned (Optuna's MedianPruner)."""

_SEED = re.compile(r"^-*(\w*[-_.])?seed$", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class Trial:
    """Arguments, and the objective at each checkpoint (less is better)."""

    arguments: tuple[str, ...]
    curve: Floats


@dataclass(frozen=True, slots=True)
class Replay:
    """What a pruner would have done.

    Attributes:
        saved_share: Part of the budget of all trials.
        pruned: How many would have ended early.
        regret: Best result kept, less the best of all; 0 if the best trial survives.
    """

    saved_share: float
    pruned: int
    regret: float


def comparable_trials(runs: Iterable[EarlierRun]) -> tuple[list[Trial], str]:
    """The latest run of each set of arguments, seeds apart, and what they are compared by.

    All by one validation result if each run logged it, else by the training loss; runs of another
    length than the last one, or without numbers, are left out.
    """
    runs = list(runs)
    if not runs:
        return [], ""
    length = len(runs[-1].losses)
    alike = [
        run
        for run in runs
        if len(run.losses) >= CHECKPOINTS
        and max(len(run.losses), length) <= MOST_LENGTH_RATIO * min(len(run.losses), length)
    ]
    latest = {_without_seed(run.arguments): run for run in alike}
    logged = [validation_series(logged_series(run.events).values()) for run in latest.values()]
    tags = {one.tag for one in logged if one is not None and len(one) >= CHECKPOINTS // 2}
    if len(tags) == 1 and None not in logged:
        (name,) = tags
        curves = [_at_checkpoints(lowered(one)) for one in logged if one is not None]
    else:
        name = "the training loss"
        curves = [_at_checkpoints(np.array(run.losses)) for run in latest.values()]
    trials = [
        Trial(run.arguments, curve) for run, curve in zip(latest.values(), curves, strict=True)
    ]
    return [trial for trial in trials if bool(np.isfinite(trial.curve).all())], name


def _without_seed(arguments: Sequence[str]) -> tuple[str, ...]:
    """Runs that differ in a seed only are repetitions, not trials."""
    kept, skip = [], False
    for argument in arguments:
        name, _, value = argument.partition("=")
        if skip:
            skip = False
        elif _SEED.match(name):
            skip = not value
        else:
            kept.append(argument)
    return tuple(kept)


def _at_checkpoints(values: Floats) -> Floats:
    """Means of equal parts of a series."""
    return np.array([part.mean() for part in np.array_split(values, min(CHECKPOINTS, len(values)))])


def early_rank_correlation(trials: Sequence[Trial]) -> float:
    """Spearman's rho between the results at a quarter of the budget and at its end."""
    early = np.array([trial.curve[len(trial.curve) * EARLY // CHECKPOINTS] for trial in trials])
    final = np.array([trial.curve[-1] for trial in trials])
    ranks = [np.argsort(np.argsort(values)).astype(np.float64) for values in (early, final)]
    if len(trials) < 2:
        return math.nan
    return float(np.corrcoef(ranks[0], ranks[1])[0, 1])


def replay_median_pruner(trials: Sequence[Trial]) -> Replay:
    """Runs the trials again on paper, in their order.

    After the first `STARTUP_TRIALS` a trial ends at the first checkpoint at which its best value so
    far is worse than the median of what the trials before it had there (Optuna's MedianPruner with
    its defaults).
    """
    points = min(len(trial.curve) for trial in trials)
    used, pruned, kept = 0, 0, []
    seen: list[Floats] = []
    for place, trial in enumerate(trials):
        best = np.minimum.accumulate(trial.curve[:points])
        end = points
        if place >= STARTUP_TRIALS:
            for point in range(points - 1):
                others = [curve[point] for curve in seen if len(curve) > point]
                if others and best[point] > float(np.median(others)):
                    end = point + 1
                    break
        used += end
        seen.append(trial.curve[:end])
        if end < points:
            pruned += 1
        else:
            kept.append(float(trial.curve[-1]))
    best_of_all = min(float(trial.curve[-1]) for trial in trials)
    return Replay(1.0 - used / (points * len(trials)), pruned, min(kept) - best_of_all)
