"""fit-wasted-epochs."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import high, is_on, low, needed, number, observed, percent, place, text
from trainprof.rules.rule import Candidate, Case, Rule


class WastedEpochs(Rule):
    """The validation result stopped improving long before the training ended.

    ## What it finds
    A training whose best validation result came early, and that went on for many evaluations which
    brought nothing better.

    ## Why it costs time
    What comes after the best checkpoint is thrown away with it. A run that stops a few evaluations
    after its best gives the same model for a part of the budget.

    ## Evidence needed
    - A validation result that the script logs through TensorBoard, wandb, Lightning's CSVLogger or
      transformers' Trainer: a loss or error, or else a score, as its name says.
    - The best is the first evaluation that no later one beats by more than the noise: one standard
      deviation about the course of the second half.
    - With a patience p of 5 evaluations, or a tenth of them if that is more: at least 2 p of them,
      and a fifth of all, came after the best.
    - The results after the best do not improve: a Theil-Sen slope that is surely negative (90 %)
      keeps the rule silent.

    It is a warning if a stop after p evaluations without progress would have saved a fifth of the
    training time, else a note. No faster step is predicted: the saving is that part of the budget,
    E / (e + p) in evaluations, with the best at e of E.

    ## Fix
    Keep the best checkpoint and stop after p evaluations without progress: Lightning's
    `EarlyStopping`, transformers' `EarlyStoppingCallback` with `load_best_model_at_end`, or a
    counter in the loop.

    ## Fix safety
    Semantics: the training ends earlier, at weights that the validation found best.

    ## When it is wrong
    Where a learning-rate schedule has not run out yet, the improvement may still be to come, as it
    often does with cosine and step schedules: silent while such a run is not complete. A validation
    set of a few hundred samples cannot tell small improvements. Some networks improve again after
    a long rise (double descent). Results that are only printed are not seen.

    ## References
    - Prechelt, Early Stopping - But When?: https://doi.org/10.1007/3-540-49430-8_3
    - Lightning, EarlyStopping:
      https://lightning.ai/docs/pytorch/stable/common/early_stopping.html
    - Nakkiran et al., Deep Double Descent: https://arxiv.org/abs/1912.02292
    """

    id = "fit-wasted-epochs"
    title = "Validation stopped improving long ago"
    needs = ("learning.evaluations", "learning.best_evaluation")
    suppresses = ("fit-overfit-gap",)
    fires_on = (
        Case(
            "best at a fifth of the run, then it gets worse",
            {
                "learning.metric": "val/loss",
                "learning.evaluations": 40,
                "learning.best_evaluation": 8,
                "learning.best_value": 0.42,
                "learning.last_value": 0.71,
                "learning.noise": 0.01,
                "learning.after_best_time_share": 0.8,
                "learning.after_best_slope": (0.009, 0.008, 0.01),
                "run.status": "complete",
            },
            severity="warn",
        ),
        Case(
            "a plateau since the middle, with a schedule that has run out",
            {
                "learning.metric": "eval_loss",
                "learning.evaluations": 30,
                "learning.best_evaluation": 15,
                "learning.after_best_time_share": 0.5,
                "learning.after_best_slope": (0.0, -0.001, 0.001),
                "learning.scheduled": True,
                "run.status": "complete",
            },
            severity="warn",
        ),
        Case(
            "a plateau that cost little",
            {
                "learning.evaluations": 40,
                "learning.best_evaluation": 29,
                "learning.after_best_time_share": 0.27,
                "run.status": "complete",
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "still improving at the end",
            {
                "learning.evaluations": 40,
                "learning.best_evaluation": 37,
                "learning.after_best_time_share": 0.07,
            },
        ),
        Case(
            "slower than its noise, but it improves",
            {
                "learning.evaluations": 40,
                "learning.best_evaluation": 20,
                "learning.after_best_time_share": 0.5,
                "learning.after_best_slope": (-0.0004, -0.0006, -0.0002),
            },
        ),
        Case(
            "a schedule that has not run out",
            {
                "learning.evaluations": 40,
                "learning.best_evaluation": 20,
                "learning.after_best_time_share": 0.5,
                "learning.scheduled": True,
                "run.status": "running",
            },
        ),
        Case(
            "nine evaluations are too few",
            {
                "learning.evaluations": 9,
                "learning.best_evaluation": 1,
                "learning.after_best_time_share": 0.9,
            },
        ),
    )

    min_patience = 5
    """Evaluations without progress before a stop (a starting value; Keras examples use 3 to 10)."""
    patience_share = 0.10
    """The same as a part of all evaluations, for runs of more than fifty."""
    patiences_past = 2
    """So many times the patience must have passed since the best."""
    min_past_share = 0.20
    """And so much of all evaluations (a starting value)."""
    warn_saving = 0.20
    """Part of the training time; the engine's gate for critical, used for a budget here."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Counts the evaluations since the best."""
        count = int(needed(signals, "learning.evaluations"))
        best = int(needed(signals, "learning.best_evaluation"))
        patience = max(self.min_patience, math.ceil(self.patience_share * count))
        past = count - best
        if past < max(self.patiences_past * patience, self.min_past_share * count):
            return
        if is_on(signals, "learning.scheduled") and text(signals, "run.status") != "complete":
            return
        improving = high(signals, "learning.after_best_slope")
        if improving is not None and improving < 0.0:
            return
        share = number(signals, "learning.after_best_time_share")
        saving = (past / count if share is None else share) * (past - patience) / past
        yield Candidate(
            summary=self._summary(signals, count, best, patience, saving),
            evidence=(
                *observed(signals, "learning.evaluations"),
                *observed(signals, "learning.best_evaluation", count - 2 * patience),
                *observed(signals, "learning.best_value"),
                *observed(signals, "learning.last_value"),
                *observed(signals, "learning.noise"),
                *observed(signals, "learning.after_best_time_share"),
                *observed(signals, "learning.after_best_slope"),
            ),
            where=place(signals, "learning.where"),
            fixes=(self._advice(patience),),
            severity="warn" if saving >= self.warn_saving else "info",
            timeless=True,
        )

    @staticmethod
    def _summary(signals: Signals, count: int, best: int, patience: int, saving: float) -> str:
        metric = text(signals, "learning.metric") or "The validation result"
        rises = low(signals, "learning.after_best_loss_slope")
        falls = high(signals, "learning.after_best_loss_slope")
        learns = (
            ""
            if falls is None or rises is None or falls >= 0.0
            else (" while the training loss still falls")
        )
        return (
            f"{metric} was best at evaluation {best} of {count}{learns}; a stop {patience} "
            f"evaluations later would save {percent(saving)} of the training time."
        )

    @staticmethod
    def _advice(patience: int) -> FixAdvice:
        return FixAdvice(
            fix="early-stopping",
            params={"patience": patience},
            safety="semantics",
            text=f"Keep the best checkpoint and stop after {patience} evaluations without progress "
            "(EarlyStopping in Lightning, EarlyStoppingCallback in transformers).",
        )
