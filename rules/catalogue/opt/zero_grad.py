"""opt-zero-grad."""

from __future__ import annotations

from collections.abc import Iterator, Mapping

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, high, low, needed, observed, percent, place
from trainprof.rules.rule import Candidate, Case, Rule


class ZeroGrad(Rule):
    """Gradients are filled with zeros in each step instead of being dropped.

    ## What it finds
    `zero_grad(set_to_none=False)` in a training that spends a visible part of its steps on it.

    ## Why it costs time
    Filling writes all gradients once, and the next backward then has to read and add instead of
    putting its result in their place. With few parameters nobody notices: ratios of 1.00 to 1.06
    on networks of up to 17 million parameters. With large tables of embeddings, of which a batch
    touches a few rows, it is memory traffic for nothing.

    ## Evidence needed
    - Gradients that are the same tensor many updates later: dropped ones are not.
    - `zero_grad()` takes at least 3 % of the step, timed on sampled steps.

    The expected gain: nothing below, as dropped gradients have to be allocated again; above,
    Amdahl's bound on twice the measured time, for the filling and the adding.

    ## Fix
    `optimizer.zero_grad()`: to drop is the default since torch 2.0.

    ## Fix safety
    Numerics, and a little more: optimizers pass over parameters without a gradient, so that weight
    decay and momentum no longer move what a step did not use. Code that reads `p.grad` after
    `zero_grad()` finds None.

    ## When it is wrong
    Captured CUDA graphs and buffers shared with gradients need them to stay. Silent under
    DistributedDataParallel with `gradient_as_bucket_view`, where they stay on purpose, and for
    gradients zeroed by hand, whose time is not known.

    ## References
    - torch.optim.Optimizer.zero_grad:
      https://docs.pytorch.org/docs/stable/generated/torch.optim.Optimizer.zero_grad.html
    - PyTorch performance tuning guide:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "opt-zero-grad"
    title = "Gradients are zeroed instead of dropped"
    needs = ("gradients.kept", "gradients.zeroing_share")
    fires_on = (
        Case(
            "a large table of embeddings",
            {
                "gradients.kept": True,
                "gradients.zeroing_share": (0.14, 0.12, 0.16),
                "optimizer.parameter_count": 6_400_000,
                "optimizer.where": {"file": "train.py", "line": 40},
            },
            severity="warn",
            gain=(1.02, 1.3),
        ),
        Case(
            "a wide network",
            {"gradients.kept": True, "gradients.zeroing_share": (0.05, 0.04, 0.06)},
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "a small network",
            {"gradients.kept": True, "gradients.zeroing_share": (0.008, 0.006, 0.01)},
        ),
        Case(
            "buckets that the gradients live in",
            {
                "gradients.kept": True,
                "gradients.zeroing_share": (0.05, 0.04, 0.06),
                "distributed.ddp": {"gradient_as_bucket_view": True},
            },
        ),
    )

    min_zeroing_share = 0.03
    """Part of the step; the same as the engine's gate for a note."""
    traffic = 2.0
    """Times the measured one, at most: the backward adds to what was filled."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Weighs the time of zero_grad()."""
        share = needed(signals, "gradients.zeroing_share")
        ddp = signals.get("distributed.ddp").value
        if signals.get("gradients.kept").value is not True or share < self.min_zeroing_share:
            return
        if isinstance(ddp, Mapping) and ddp.get("gradient_as_bucket_view"):
            return
        most = min(self.traffic * (high(signals, "gradients.zeroing_share") or share), 1.0)
        yield Candidate(
            summary=f"{percent(share)} of the step fills gradients with zeros that could be "
            "dropped.",
            evidence=(
                *observed(signals, "gradients.zeroing_share", self.min_zeroing_share),
                *observed(signals, "gradients.kept"),
                *observed(signals, "optimizer.parameter_count"),
            ),
            share=share,
            share_low=low(signals, "gradients.zeroing_share"),
            gain=Gain(1.0, amdahl(most)),
            where=place(signals, "optimizer.where"),
            fixes=(
                FixAdvice(
                    fix="zero-grad-none",
                    params={"set_to_none": True},
                    safety="numerics",
                    text="Leave set_to_none at its default.",
                    code="optimizer.zero_grad()",
                ),
            ),
            confidence="medium",
        )
