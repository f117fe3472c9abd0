"""loop-val-share."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    duration,
    gain,
    low,
    needed,
    number,
    observed,
    percent,
    place,
)
from trainprof.rules.rule import Candidate, Case, Rule


class ValShare(Rule):
    """Validation takes a large part of the training time.

    ## What it finds
    A training that stops so often, or for so long, to evaluate that a tenth of its time or more is
    validation.

    ## Why it costs time
    A validation teaches nothing; it only tells how far the training is. A pass over the validation
    set costs about a third of a training step for each batch. Done every few steps instead of once
    per epoch, or with the small batches that the training needs, it adds up to more than the
    training itself.

    ## Evidence needed
    - At least 3 validations among the steady steps: the share of one depends on where the run was
      cut.
    - At least 10 % of the steady steps' time in validation (a note), 20 % for a warning. A
      validation once per epoch over a tenth of the data stays below 4 %.

    The interval is Amdahl's bound with validation k times as rare or as cheap: G = 1 / (1 - s (1 -
    1/k)), from k = 2 with the lower bound of the share to k = 10 with the share.

    ## Fix
    Validate less often (every k-th time), on a fixed part of the validation set in between and on
    all of it at the end. Without gradients a batch needs less than half the memory of a training
    batch, so let it be 2 to 4 times as large; use `torch.inference_mode()`. Lightning has
    `val_check_interval`, `check_val_every_n_epoch` and `limit_val_batches`, transformers has
    `eval_steps` and `per_device_eval_batch_size`.

    ## Fix safety
    Semantics where something depends on the validations (early stopping, the best checkpoint, a
    plateau scheduler): it reacts later. Larger evaluation batches are numerics: same weights, same
    samples, other rounding of what is summed over batches; a mean of batch means weighs the last
    batch otherwise.

    ## When it is wrong
    Short runs with long plans: in the first thousand steps a validation every hundredth may be
    wanted. Where validation is the purpose (cross-validation, a benchmark), its time is well spent.
    Silent below 3 validations and while no validation can be told from training.

    ## References
    - Lightning, validation interval:
      https://lightning.ai/docs/pytorch/stable/common/trainer.html#val-check-interval
    - transformers, TrainingArguments: https://huggingface.co/docs/transformers/main_classes/trainer
    - Tuning guide, "Disable gradient calculation for validation or inference":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "loop-val-share"
    title = "Validation takes a large part of the time"
    needs = ("step.validation_share", "validation.count")
    fires_on = (
        Case(
            "a validation every ten steps takes as long as the training",
            {
                "step.validation_share": (0.5, 0.47, 0.53),
                "step.forward_share": (0.2, 0.19, 0.21),
                "step.backward_share": (0.25, 0.24, 0.26),
                "validation.count": 40,
                "validation.mean_s": 0.05,
                "validation.interval_steps": 10.0,
                "validation.batch_size": 32,
                "loader.batch_size": 32,
                "validation.where": {"file": "train.py", "line": 30},
            },
            severity="warn",
            gain=(1.3, 1.9),
        ),
        Case(
            "a large validation set after each epoch",
            {
                "step.validation_share": (0.15, 0.11, 0.19),
                "validation.count": 8,
                "validation.mean_s": 9.0,
                "validation.interval_steps": 500.0,
            },
            severity="info",
            gain=(1.05, 1.16),
        ),
    )
    silent_on = (
        Case(
            "once per epoch over a tenth of the data",
            {
                "step.validation_share": (0.04, 0.03, 0.05),
                "validation.count": 10,
                "validation.mean_s": 0.4,
            },
        ),
        Case(
            "one long validation in a run that was cut short",
            {
                "step.validation_share": (0.4, 0.0, 0.8),
                "validation.count": 1,
                "validation.mean_s": 5.0,
            },
        ),
        Case("none", {"step.validation_share": (0.0, 0.0, 0.0), "validation.count": 0}),
    )

    min_share = 0.10
    """Share of the step; well above what one pass over a tenth of the data per epoch takes."""
    warn_share = 0.20
    """Share of the step from which it is more than a note (a starting value)."""
    min_validations = 3
    """Of fewer the share depends on where the run was cut."""
    times_fewer_low, times_fewer_high = 2.0, 10.0
    """k of the formula: every second validation left out, or nine of ten."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports the validation phase with its rhythm."""
        share = needed(signals, "step.validation_share")
        count = needed(signals, "validation.count")
        if share < self.min_share or count < self.min_validations:
            return
        share_low = low(signals, "step.validation_share") or 0.0
        yield Candidate(
            summary=self._summary(signals, share),
            evidence=(
                *observed(signals, "step.validation_share", self.min_share),
                *observed(signals, "validation.count", self.min_validations),
                *observed(signals, "validation.mean_s"),
                *observed(signals, "validation.interval_steps"),
                *observed(signals, "validation.batch_size"),
            ),
            share=share,
            share_low=share_low,
            gain=gain(share_low, share, self.times_fewer_low, self.times_fewer_high),
            where=place(signals, "validation.where"),
            fixes=self._advice(signals),
            confidence="high",
            max_severity="warn" if share >= self.warn_share else "info",
        )

    @staticmethod
    def _summary(signals: Signals, share: float) -> str:
        every = number(signals, "validation.interval_steps")
        each_s = number(signals, "validation.mean_s")
        rhythm = "" if every is None else f", one every {max(every, 1.0):.3g} steps"
        length = "" if each_s is None else f", {duration(each_s)} each"
        return f"Validation takes {percent(share)} of the time{rhythm}{length}."

    def _advice(self, signals: Signals) -> tuple[FixAdvice, ...]:
        rarer = FixAdvice(
            fix="validation-interval",
            params={"times_fewer": self.times_fewer_low},
            safety="semantics",
            text="Validate less often, or on a fixed part of the validation set in between and on "
            "all of it at the end.",
        )
        batch, trained = (
            number(signals, "validation.batch_size"),
            number(signals, "loader.batch_size"),
        )
        if batch is None or trained is None or batch > trained:
            return (rarer,)
        larger = FixAdvice(
            fix="validation-batch",
            params={"batch_size": int(4 * batch)},
            safety="numerics",
            text="Give the validation larger batches: without gradients they need less than half "
            "the memory.",
            code=f"DataLoader(validation, batch_size={int(4 * batch)})",
        )
        return rarer, larger
