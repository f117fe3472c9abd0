"""hpo-grid."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, observed, text
from trainprof.rules.rule import Candidate, Case, Rule


class Grid(Rule):
    """The runs of this script are a grid: every combination of a few values of each argument.

    ## What it finds
    Twenty runs or more of one script, beside this one in the folder of runs, that differ in three
    numbers or more and are all the combinations of their values.

    ## Why it costs time
    A grid tries each argument at few values only, whatever the number of runs: 36 runs of a 4 x 3 x
    3 grid know four learning rates. Where one or two of the arguments matter, which is usual, most
    runs repeat what is known of these. As many random points try each argument at as many values; a
    sampler that learns from the results, with a pruner, spends less still.

    ## Evidence needed
    - At least 20 runs of the same script in the same folder, however they ended, that have the same
      options and share all words among them (the data set, the model), are all combinations of
      their numbers, and differ in three of these or more, at least one at three values. Runs that
      differ in a seed, a fold, a name or a place only count once.
    - At least two of these numbers are what one tunes, by their names: a learning rate, a weight
      decay, a dropout, a momentum, a batch size, a width.

    It is a note without a predicted gain: how much a better search would have saved depends on how
    the result depends on the arguments, which these runs do not tell.

    ## Fix
    Draw the points at random, from ranges on a scale that suits (logarithmic for rates), or let
    Optuna's TPE sampler choose them, under a Hyperband pruner.

    ## Fix safety
    Semantics: other points are tried.

    ## When it is wrong
    A design that wants every combination: an ablation (silent where each argument has two values
    only), an interaction to be plotted, a benchmark over data sets and models (words never count as
    an argument of the grid, nor do numbers of epochs, steps or samples). A grid of cheap runs that
    is over already costs nothing more; the note is for the next one.

    ## References
    - Bergstra and Bengio, Random Search for Hyper-Parameter Optimization:
      https://www.jmlr.org/papers/v13/bergstra12a.html
    - Optuna, samplers and pruners:
      https://optuna.readthedocs.io/en/stable/tutorial/10_key_features/003_efficient_optimization_algorithms.html
    - Li et al., Hyperband: https://arxiv.org/abs/1603.06560
    """

    id = "hpo-grid"
    title = "The search tries every combination"
    needs = ("search.grid_runs", "search.grid_arguments", "search.grid_most_values")
    can_warn = False
    fires_on = (
        Case(
            "four rates, three decays, three dropouts",
            {
                "search.grid_runs": 36,
                "search.grid_arguments": "lr (4 values), wd (3), dropout (3)",
                "search.grid_dimensions": 3,
                "search.grid_most_values": 4,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "an ablation: five parts, each with and without",
            {
                "search.grid_runs": 32,
                "search.grid_arguments": "dropout (2 values), decay (2), clip (2), warmup (2)",
                "search.grid_dimensions": 4,
                "search.grid_most_values": 2,
            },
        ),
        Case(
            "two arguments",
            {
                "search.grid_runs": 25,
                "search.grid_arguments": "lr (5 values), wd (5)",
                "search.grid_dimensions": 2,
                "search.grid_most_values": 5,
            },
        ),
        Case(
            "eighteen runs",
            {
                "search.grid_runs": 18,
                "search.grid_arguments": "lr (3 values), wd (3), dropout (2)",
                "search.grid_dimensions": 3,
                "search.grid_most_values": 3,
            },
        ),
    )

    min_runs = 20
    """Combinations that were run (a starting value)."""
    min_dimensions = 3
    """Arguments; a plane is still looked at with profit."""
    min_most_values = 3
    """Values of the argument with the most: with two of each it is an ablation."""

    def applies(self, signals: Signals) -> bool:
        """False where the runs beside this one are no grid."""
        return signals.get("search.grid_runs").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the size of the grid with the thresholds."""
        runs = needed(signals, "search.grid_runs")
        most = needed(signals, "search.grid_most_values")
        dimensions = signals.get("search.grid_dimensions").value
        if runs < self.min_runs or most < self.min_most_values:
            return
        if not isinstance(dimensions, int) or dimensions < self.min_dimensions:
            return
        yield Candidate(
            summary=f"{runs:.0f} runs of this script are all the combinations of "
            f"{text(signals, 'search.grid_arguments')}: none of these was tried at more than "
            f"{most:.0f} values.",
            evidence=(
                *observed(signals, "search.grid_runs", self.min_runs),
                *observed(signals, "search.grid_dimensions", self.min_dimensions),
                *observed(signals, "search.grid_arguments"),
                *observed(signals, "search.grid_most_values", self.min_most_values),
            ),
            fixes=(
                FixAdvice(
                    fix="search-sampler",
                    params={"sampler": "TPE", "pruner": "hyperband", "trials": int(runs)},
                    safety="semantics",
                    text="Next time draw each argument from its range, at random or by Optuna's "
                    "TPE sampler, and end losing trials early with its Hyperband pruner.",
                    code="optuna.create_study(sampler=TPESampler(), pruner=HyperbandPruner())",
                ),
            ),
            severity="info",
            timeless=True,
        )
