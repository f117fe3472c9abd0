"""loop-deepcopy."""

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
    rate,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Deepcopy(Rule):
    """The model is copied with `copy.deepcopy` so often that it shows.

    ## What it finds
    `copy.deepcopy(model)`, or of a `state_dict()`, in the training loop: to keep the best weights,
    an average, a target network.

    ## Why it costs time
    A deep copy walks every Python object of the model, allocates each tensor anew and copies it;
    the old copy is freed, and with it memory that was in the cache. Copying into tensors that
    exist already does the last part only.

    ## Evidence needed
    - At least 3 % of the steady steps' time inside `copy.deepcopy` of modules or their states.

    The interval: from half of that time (few large tensors, where the copy itself is the work) to
    all of it (many small ones). A copy of the model at each step made a small network 1.3 times
    slower.

    ## Fix
    Keep one copy from the beginning and refresh it: `torch._foreach_copy_(kept, list(
    model.parameters()))` under `no_grad`, or `kept.load_state_dict(model.state_dict())`. Or copy at
    evaluations only, and only when the result is better than all before.

    ## Fix safety
    Safe: the same values are kept.

    ## When it is wrong
    Methods that need a fresh model for each step (meta-learning, `torch.func`) are better served by
    functional calls than by a cheaper copy. Copies of other objects are not counted.

    ## References
    - copy.deepcopy: https://docs.python.org/3/library/copy.html
    - Averaging weights: https://docs.pytorch.org/docs/stable/optim.html#weight-averaging-swa-and-ema
    """

    id = "loop-deepcopy"
    title = "Models are deep-copied in the training loop"
    needs = ("deepcopy.share",)
    suppresses = ("loop-residual",)
    fires_on = (
        Case(
            "the best weights are kept at every step",
            {
                "deepcopy.share": (0.24, 0.21, 0.27),
                "deepcopy.per_step": 0.8,
                "deepcopy.mean_s": 0.001,
                "deepcopy.what": "Sequential",
                "deepcopy.where": {"file": "train.py", "line": 33},
            },
            severity="critical",
            gain=(1.1, 1.32),
        ),
    )
    silent_on = (
        Case("none", {"deepcopy.share": (0.0, 0.0, 0.0), "deepcopy.per_step": 0.0}),
        Case(
            "once per epoch",
            {
                "deepcopy.share": (0.004, 0.002, 0.006),
                "deepcopy.per_step": 0.01,
                "deepcopy.mean_s": 0.001,
            },
        ),
    )

    min_share = 0.03
    """Share of the step; the same as the engine's gate for a note."""
    remaining_share = 0.5
    """Part of the time that may stay after the fix, for the lower end of the gain."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Reports the time in deep copies of models."""
        share = needed(signals, "deepcopy.share")
        if share < self.min_share:
            return
        share_low = low(signals, "deepcopy.share") or 0.0
        often, each_s = number(signals, "deepcopy.per_step"), number(signals, "deepcopy.mean_s")
        what = text(signals, "deepcopy.what") or "a model"
        detail = "" if often is None else f", {rate(often, 'copy').replace('copys', 'copies')}"
        detail += "" if each_s is None else f" of {duration(each_s)}"
        yield Candidate(
            summary=f"copy.deepcopy of {what} takes {percent(share)} of the time{detail}.",
            evidence=(
                *observed(signals, "deepcopy.share", self.min_share),
                *observed(signals, "deepcopy.per_step"),
                *observed(signals, "deepcopy.mean_s"),
            ),
            share=share,
            share_low=share_low,
            gain=gain(share_low * (1 - self.remaining_share), share, float("inf")),
            where=place(signals, "deepcopy.where"),
            fixes=(self._advice(),),
            confidence="high",
            phases=("residual",),
        )

    @staticmethod
    def _advice() -> FixAdvice:
        return FixAdvice(
            fix="copy-in-place",
            params={},
            safety="safe",
            text="Keep one copy and refresh it in place, and only where the result is better.",
            code="with torch.no_grad(): torch._foreach_copy_(kept, list(model.parameters()))",
        )
