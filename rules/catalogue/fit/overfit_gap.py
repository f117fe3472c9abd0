"""fit-overfit-gap."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import high, low, needed, number, observed, place, text
from trainprof.rules.rule import Candidate, Case, Rule


class OverfitGap(Rule):
    """The training loss still falls while the validation result gets worse.

    ## What it finds
    A training that has begun to learn its samples by heart: since the best evaluation the training
    loss goes down and the validation result goes the wrong way, both surely.

    ## Why it costs time
    The epochs after the turn make the model worse. They are not slow, they are for nothing; and a
    model that generalises better would have made use of them.

    ## Evidence needed
    - A validation result that the script logs (see fit-wasted-epochs), at least 8 values from the
      best on.
    - The Theil-Sen slope of the training loss in that time is negative and that of the validation
      result points to worse, both with their 90 % intervals.

    A note on quality: no time is predicted.

    ## Fix
    More or augmented data, weight decay, dropout, label smoothing, a smaller or a pretrained model;
    at least keep the checkpoint of the best evaluation.

    ## Fix safety
    Semantics: each of these gives another model.

    ## When it is wrong
    A validation *loss* may rise while the accuracy still improves: the model becomes too sure of
    itself, which matters only where probabilities do. If accuracy is what counts, log it and judge
    by it. Test-time dropout and changing data mixtures move both curves too.

    ## References
    - Guo et al., On Calibration of Modern Neural Networks: https://arxiv.org/abs/1706.04599
    - Sen, Estimates of the regression coefficient based on Kendall's tau:
      https://doi.org/10.1080/01621459.1968.10480934
    """

    id = "fit-overfit-gap"
    title = "Training improves while validation gets worse"
    needs = (
        "learning.evaluations",
        "learning.best_evaluation",
        "learning.after_best_slope",
        "learning.after_best_loss_slope",
    )
    can_warn = False
    fires_on = (
        Case(
            "the curves part at evaluation 6",
            {
                "learning.metric": "val/loss",
                "learning.evaluations": 14,
                "learning.best_evaluation": 6,
                "learning.after_best_slope": (0.02, 0.015, 0.025),
                "learning.after_best_loss_slope": (-1e-4, -1.2e-4, -0.8e-4),
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "both improve",
            {
                "learning.evaluations": 14,
                "learning.best_evaluation": 6,
                "learning.after_best_slope": (-0.02, -0.025, -0.015),
                "learning.after_best_loss_slope": (-1e-4, -1.2e-4, -0.8e-4),
            },
        ),
        Case(
            "the validation only scatters",
            {
                "learning.evaluations": 14,
                "learning.best_evaluation": 6,
                "learning.after_best_slope": (0.002, -0.005, 0.009),
                "learning.after_best_loss_slope": (-1e-4, -1.2e-4, -0.8e-4),
            },
        ),
        Case(
            "both get worse: that is another fault",
            {
                "learning.evaluations": 14,
                "learning.best_evaluation": 6,
                "learning.after_best_slope": (0.02, 0.015, 0.025),
                "learning.after_best_loss_slope": (1e-4, 0.8e-4, 1.2e-4),
            },
        ),
        Case(
            "an early stop five evaluations after the best",
            {
                "learning.evaluations": 11,
                "learning.best_evaluation": 6,
                "learning.after_best_slope": (0.02, 0.015, 0.025),
                "learning.after_best_loss_slope": (-1e-4, -1.2e-4, -0.8e-4),
            },
        ),
    )

    min_points = 8
    """Evaluations from the best on; a run with early stopping ends before (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the two slopes since the best evaluation."""
        count = needed(signals, "learning.evaluations")
        best = needed(signals, "learning.best_evaluation")
        worse = low(signals, "learning.after_best_slope") or 0.0
        learns = high(signals, "learning.after_best_loss_slope") or 0.0
        if count - best + 1 < self.min_points or worse <= 0.0 or learns >= 0.0:
            return
        metric = text(signals, "learning.metric") or "The validation result"
        first, last = number(signals, "learning.best_value"), number(signals, "learning.last_value")
        course = "" if first is None or last is None else f" ({first:.4g} to {last:.4g})"
        yield Candidate(
            summary=f"Since evaluation {best:.0f} of {count:.0f} {metric} gets worse{course} while "
            "the training loss still falls.",
            evidence=(
                *observed(signals, "learning.after_best_slope", 0.0),
                *observed(signals, "learning.after_best_loss_slope", 0.0),
                *observed(signals, "learning.best_evaluation"),
                *observed(signals, "learning.evaluations", self.min_points),
                *observed(signals, "learning.best_value"),
                *observed(signals, "learning.last_value"),
            ),
            where=place(signals, "learning.where"),
            fixes=(self._advice(),),
            severity="info",
            timeless=True,
        )

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="regularise",
            params={},
            safety="semantics",
            text="Keep the checkpoint of the best evaluation; try weight decay, dropout, "
            "augmentation, a smaller or a pretrained model.",
        )
