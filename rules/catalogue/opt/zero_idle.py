"""opt-zero-idle."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class ZeroIdle(Rule):
    """The device is idle while the host fills gradients with zeros, one by one.

    ## What it finds
    In a trace: idle time of the device while the host is inside `zero_grad()`. `opt-zero-grad`
    finds the filling itself in a run.

    ## Why it costs time
    Filling launches a kernel for each parameter, of a few microseconds, and each launch takes the
    host longer than that. At the start of a step, when nothing is queued yet, the device waits.
    Dropped gradients need no launch.

    ## Evidence needed
    - torch.optim has annotated `zero_grad()`.
    - In at least 3 % of the window the device was idle meanwhile.

    How long the host is in there says nothing where the device has work. The expected gain is
    Amdahl's bound on the idle time, half of it at the lower end.

    ## Fix
    `optimizer.zero_grad(set_to_none=True)`: the default since torch 2.0.

    ## Fix safety
    Numerics: optimizers pass over parameters without a gradient, so that weight decay and momentum
    no longer move what a step did not use. Code that reads `p.grad` after `zero_grad()` finds None.

    ## When it is wrong
    Profilers slow the host down, and most so where calls are many and short.

    ## References
    - torch.optim.Optimizer.zero_grad:
      https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html
    - Tuning guide: https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "opt-zero-idle"
    title = "The device waits while gradients are zeroed"
    needs = ("zero_grads.idle_share", "zero_grads.type", "timeline.window")
    fires_on = (
        Case(
            "hundreds of gradients at the start of each step",
            {
                "zero_grads.type": "SGD",
                "zero_grads.host_share": 0.074,
                "zero_grads.idle_share": 0.061,
                "timeline.window": "6 whole steps",
            },
            severity="info",
            gain=(1.03, 1.06),
        ),
    )
    silent_on = (
        Case(
            "filled while the device has work",
            {
                "zero_grads.type": "SGD",
                "zero_grads.host_share": 0.08,
                "zero_grads.idle_share": 0.01,
                "timeline.window": "6 whole steps",
            },
        ),
    )

    min_share = 0.03
    """Of the window (the threshold of any finding)."""
    least_saved = 0.5
    """Part of it, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """A trace marks such calls."""
        return text(signals, "zero_grads.type") is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the idle time under it."""
        share = needed(signals, "zero_grads.idle_share")
        if share < self.min_share:
            return
        yield Candidate(
            summary=(
                f"In {percent(share)} of {text(signals, 'timeline.window')} the device had nothing "
                f"to do while the host was in {text(signals, 'zero_grads.type')}.zero_grad()."
            ),
            evidence=(
                *observed(signals, "zero_grads.idle_share", self.min_share),
                *observed(signals, "zero_grads.host_share"),
            ),
            share=share,
            gain=Gain(amdahl(share * self.least_saved), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="zero-grad-none",
                    params={"set_to_none": True},
                    safety="numerics",
                    text="Drop gradients rather than fill them with zeros.",
                    code="optimizer.zero_grad(set_to_none=True)",
                ),
            ),
            confidence="medium",
        )
