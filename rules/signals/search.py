"""Earlier runs of the same script with other arguments: a search by hand."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.rules.signals.sheet import Description, Sheet
from trainprof.rules.signals.training import Training
from trainprof.rules.trials import (
    comparable_trials,
    early_rank_correlation,
    replay_median_pruner,
)

LEAST_TRIALS = 5
"""Fewer tell nothing about early results."""

DESCRIPTIONS = (
    Description("search.trials", "count", "Complete runs of this script with other arguments."),
    Description("search.metric", "text", "What they are compared by."),
    Description(
        "search.early_correlation", "number", "Spearman's rho of results at a quarter and the end."
    ),
    Description("search.saved_share", "share", "Budget that a median pruner would have saved."),
    Description("search.pruned", "count", "Trials that it would have ended early."),
    Description("search.regret", "number", "By how much its best result would have been worse."),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals search.*."""
    sheet = Sheet(DESCRIPTIONS)
    trials, metric = comparable_trials(training.earlier_runs)
    sheet.put("search.trials", len(trials))
    if len(trials) < LEAST_TRIALS:
        return sheet.finish("there are fewer than five such runs beside this one")
    sheet.put("search.metric", metric)
    rho = early_rank_correlation(trials)
    sheet.put("search.early_correlation", rho, samples=len(trials), reason="all ended alike")
    replay = replay_median_pruner(trials)
    sheet.put("search.saved_share", replay.saved_share, samples=len(trials))
    sheet.put("search.pruned", replay.pruned)
    sheet.put("search.regret", replay.regret)
    return sheet.finish("it was not measured")
