"""hpo-lr-suspect."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import needed, number, observed, place
from trainprof.rules.rule import Candidate, Case, Rule


class LrSuspect(Rule):
    """The training loss went up and stayed up: the learning rate looks too high.

    ## What it finds
    A training whose loss ends clearly above where it began, with numbers throughout.

    ## Why it costs time
    Steps after the loss has left the region where it can fall teach nothing. Most often the
    learning rate is too high, or it was raised without a warm-up.

    ## Evidence needed
    - At least 200 losses, all of them numbers.
    - The median of the last fifth is at least 1.5 times the median of the first twentieth, and the
      loss is positive.
    - The gap is at least three times the scatter of either part.

    A note: from the loss alone the cause is a suspicion. No time is predicted.

    ## Fix
    A learning-rate range test (a hundred steps with a rising rate), a tenth of the rate, a warm-up
    of some hundred steps, or clipped gradients.

    ## Fix safety
    Semantics: another learning rate is another training.

    ## When it is wrong
    Losses that are no measure of progress: those of the two sides of a GAN, reinforcement learning,
    curricula that grow harder, regularisers with a growing weight. The rule is silent where more
    than one optimizer is at work.

    ## References
    - Smith, Cyclical Learning Rates (range test): https://arxiv.org/abs/1506.01186
    - Godbole et al., Deep Learning Tuning Playbook:
      https://github.com/google-research/tuning_playbook
    """

    id = "hpo-lr-suspect"
    title = "The loss ends above where it began"
    needs = ("loss.begin_median", "loss.end_median", "loss.scatter")
    can_warn = False
    fires_on = (
        Case(
            "from 2.3 to 40",
            {
                "loss.begin_median": 2.3,
                "loss.end_median": 40.0,
                "loss.scatter": 3.0,
                "loss.count": 1_000,
                "loss.finite": True,
                "optimizer.count": 1,
                "optimizer.learning_rate": 1.0,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "it falls",
            {
                "loss.begin_median": 2.3,
                "loss.end_median": 0.4,
                "loss.scatter": 0.1,
                "loss.count": 1_000,
                "loss.finite": True,
            },
        ),
        Case(
            "flat and noisy",
            {
                "loss.begin_median": 1.0,
                "loss.end_median": 1.6,
                "loss.scatter": 0.8,
                "loss.count": 1_000,
                "loss.finite": True,
            },
        ),
        Case(
            "two networks against each other",
            {
                "loss.begin_median": 0.7,
                "loss.end_median": 3.0,
                "loss.scatter": 0.2,
                "loss.count": 1_000,
                "loss.finite": True,
                "optimizer.count": 2,
            },
        ),
        Case(
            "no number at the end: that is another finding",
            {
                "loss.begin_median": 0.7,
                "loss.end_median": 3.0,
                "loss.scatter": 0.2,
                "loss.count": 1_000,
                "loss.finite": False,
            },
        ),
    )

    min_losses = 200
    """Losses; fewer are the beginning of a training (a starting value)."""
    min_rise = 1.5
    """End over beginning (a starting value)."""
    min_scatters = 3.0
    """The rise in standard deviations of single losses (a starting value)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the end of the loss with its beginning."""
        begin, end = needed(signals, "loss.begin_median"), needed(signals, "loss.end_median")
        count = number(signals, "loss.count") or 0
        if signals.get("loss.finite").value is not True or count < self.min_losses:
            return
        if (number(signals, "optimizer.count") or 1) > 1 or begin <= 0.0:
            return
        scatter = needed(signals, "loss.scatter")
        if end < self.min_rise * begin or end - begin < self.min_scatters * scatter:
            return
        rate = number(signals, "optimizer.learning_rate")
        with_rate = "" if rate is None else f" with a learning rate of {rate:.3g}"
        yield Candidate(
            summary=f"The training loss went from {begin:.3g} to {end:.3g}{with_rate}.",
            evidence=(
                *observed(signals, "loss.begin_median"),
                *observed(signals, "loss.end_median", self.min_rise * begin),
                *observed(signals, "loss.scatter"),
                *observed(signals, "loss.count", self.min_losses),
                *observed(signals, "optimizer.learning_rate"),
            ),
            where=place(signals, "optimizer.where"),
            fixes=(self._advice(),),
            confidence="low",
            severity="info",
            timeless=True,
        )

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="learning-rate-lower",
            params={},
            safety="semantics",
            text="Try a tenth of the learning rate, or a warm-up of some hundred steps.",
        )
