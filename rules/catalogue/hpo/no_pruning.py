"""hpo-no-pruning."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class NoPruning(Rule):
    """Runs with other arguments go on to their end although early results tell which will lose.

    ## What it finds
    Five or more complete runs of one script with different arguments, beside this one in the folder
    of runs: a search by hand. Their order at a quarter of the budget is nearly that at the end.

    ## Why it costs time
    A trial that is behind at a quarter rarely wins. Its other three quarters are spent to confirm
    it.

    ## Evidence needed
    - At least 5 complete runs with the same script, folder and number of losses and with different
      arguments; runs that differ in a seed only are repetitions and count once.
    - Spearman's rho of at least 0.6 between the results at a quarter of the budget and at the end:
      a validation result if all of them logged the same, else the training loss.
    - Replayed through a median pruner (the first 5 trials run to their end, later ones stop where
      their best so far is worse than the median) at least a tenth of the budget is saved.

    The sentence names the share of the budget and the regret: by how much the best result kept is
    worse than the best of all. It is a note: no step becomes faster.

    ## Fix
    Run the search under a pruner, which needs a report of the result every so often: Optuna's
    `MedianPruner` or `HyperbandPruner`, Ray's ASHA. By hand: stop what is behind the median.

    ## Fix safety
    Semantics: the search tries the same arguments for less, and may lose a late winner.

    ## When it is wrong
    Arguments that change how fast a trial begins (warm-up, learning rate, schedule) bend the order:
    low learning rates win late. A training loss cannot compare regularisers or different losses.
    Silent where the replay would have lost the best trial.

    ## References
    - Optuna, pruners: https://optuna.readthedocs.io/en/stable/reference/pruners.html
    - Li et al., Hyperband: https://arxiv.org/abs/1603.06560
    - Li et al., ASHA: https://arxiv.org/abs/1810.05934
    """

    id = "hpo-no-pruning"
    title = "Losing trials run to their end"
    needs = ("search.trials", "search.saved_share", "search.early_correlation", "search.regret")
    can_warn = False
    fires_on = (
        Case(
            "twelve learning rates, the order known after a quarter",
            {
                "search.trials": 12,
                "search.metric": "val/loss",
                "search.early_correlation": 0.9,
                "search.saved_share": 0.35,
                "search.pruned": 5,
                "search.regret": 0.0,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "early results tell nothing",
            {
                "search.trials": 12,
                "search.early_correlation": 0.2,
                "search.saved_share": 0.35,
                "search.regret": 0.0,
            },
        ),
        Case(
            "the winner would have been lost",
            {
                "search.trials": 12,
                "search.early_correlation": 0.7,
                "search.saved_share": 0.35,
                "search.regret": 0.1,
            },
        ),
        Case(
            "five trials, of which none would have been pruned",
            {
                "search.trials": 5,
                "search.early_correlation": 0.9,
                "search.saved_share": 0.0,
                "search.regret": 0.0,
            },
        ),
    )

    min_correlation = 0.6
    """Spearman's rho (a starting value)."""
    min_saved_share = 0.10
    """Part of the budget of all trials; less is not worth another tool (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Asks whether a pruner would have saved much and lost nothing."""
        if needed(signals, "search.early_correlation") < self.min_correlation:
            return
        saved = needed(signals, "search.saved_share")
        if saved < self.min_saved_share or needed(signals, "search.regret") > 0.0:
            return
        trials = needed(signals, "search.trials")
        pruned = number(signals, "search.pruned")
        metric = text(signals, "search.metric") or "their results"
        how_many = "" if pruned is None else f" by ending {pruned:.0f} of them early"
        yield Candidate(
            summary=f"{trials:.0f} runs of this script with other arguments went to their end; "
            f"judged by {metric}, a median pruner would have saved {percent(saved)} of their "
            f"time{how_many} and kept the best.",
            evidence=(
                *observed(signals, "search.trials"),
                *observed(signals, "search.early_correlation", self.min_correlation),
                *observed(signals, "search.saved_share", self.min_saved_share),
                *observed(signals, "search.pruned"),
                *observed(signals, "search.regret", 0.0),
            ),
            fixes=(self._advice(),),
            severity="info",
            timeless=True,
        )

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="search-pruner",
            params={"pruner": "median"},
            safety="semantics",
            text="Run the search under a pruner (Optuna's MedianPruner, Ray's ASHA), and report "
            "the validation result every so often.",
        )
