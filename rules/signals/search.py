"""Earlier runs of the same script with other arguments: a search by hand."""

from __future__ import annotations

from trainprof.profiler.model.signals import Signal
from trainprof.rules.search_grid import find_grid
from trainprof.rules.search_queue import runs_in_a_row
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
    Description("search.grid_runs", "count", "Runs that are all combinations of some numbers."),
    Description("search.grid_dimensions", "count", "Arguments that these differ in."),
    Description("search.grid_arguments", "text", "Which, and how many values of each."),
    Description("search.grid_most_values", "count", "Values of the argument with the most."),
    Description(
        "search.runs_in_a_row",
        "count",
        "Runs with other arguments, up to this one, each begun as the one before had ended.",
    ),
)


def measure(training: Training) -> dict[str, Signal]:
    """Signals search.*."""
    sheet = Sheet(DESCRIPTIONS)
    _grid(training, sheet)
    started = training.run.info.started_unix_s
    row = runs_in_a_row(training.launches, started) if training.launches else None
    sheet.put("search.runs_in_a_row", row, reason="the runs beside this one were not read")
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


def _grid(training: Training, sheet: Sheet) -> None:
    commands = [launch.arguments for launch in training.launches]
    grid = find_grid(commands, training.run.info.argv)
    names = [description.name for description in DESCRIPTIONS if ".grid_" in description.name]
    if grid is None:
        for name in names:
            sheet.miss(name, "the runs beside this one are no grid")
        return
    (first, values), *others = sorted(grid.values.items(), key=lambda item: -item[1])
    sheet.put("search.grid_runs", grid.runs)
    sheet.put("search.grid_dimensions", len(grid.values))
    listed = [f"{first} ({values} values)", *(f"{name} ({count})" for name, count in others)]
    sheet.put("search.grid_arguments", ", ".join(listed))
    sheet.put("search.grid_most_values", values)
