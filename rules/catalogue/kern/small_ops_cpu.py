"""kern-small-ops-cpu."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    duration,
    needed,
    observed,
    percent,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class SmallOpsCpu(Rule):
    """The step is made of very many very short operators, and the time goes into calling them.

    ## What it finds
    A step of more than 500 operators on a CPU, half of which take less than 20 µs each, where such
    short operators and the pauses between operators take at least 30 % of the step.

    ## Why it costs time
    An operator costs some microseconds before it computes anything: Python finds the function,
    torch finds the implementation, makes an output and a node for the backward. On small tensors
    that is more than the work.

    ## Evidence needed
    - One step under torch's profiler, or the whole steps of a trace, counts the operators, the time
      in those that take less than 20 µs (in the backward also those inside a node), and the pauses
      between them; pauses of more than 0.2 ms are something else and do not count.

    The expected gain is at most Amdahl's bound on that time; whether and how much of it can be had
    depends on the model, so the interval starts at none. A model of 80 networks of 16 neurons, one
    for each feature, became 11 times faster with their weights in one tensor for each layer.

    ## Fix
    A larger batch, if the training allows it: the same operators then do more each. Else fewer
    operators: fuse by hand, stack parallel layers into one, or `torch.compile`.

    ## Fix safety
    Semantics for a larger batch (another trajectory); numerics for the others.

    ## When it is wrong
    The profiler itself lengthens short operators and pauses, so the share is somewhat too large,
    and a short operator does some work as well; hence a note only.
    Loops that repeat the same operators have a rule of their own (kern-pyloop), which explains this
    one. Silent on accelerators.

    ## References
    - PyTorch performance tuning guide:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "kern-small-ops-cpu"
    title = "Very many very short operators"
    needs = ("operators.short_share", "operators.count", "operators.median_s")
    can_warn = False
    on_traces = True
    fires_on = (
        Case(
            "700 operators of 6 µs",
            {
                "operators.short_share": 0.4,
                "operators.count": 700,
                "operators.median_s": 6e-6,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "as many operators that are long",
            {
                "operators.short_share": 0.05,
                "operators.count": 900,
                "operators.median_s": 300e-6,
            },
        ),
        Case(
            "short operators, but few",
            {
                "operators.short_share": 0.4,
                "operators.count": 60,
                "operators.median_s": 6e-6,
            },
        ),
    )

    min_count = 500
    """Operators of a step (a starting value)."""
    max_median_s = 20e-6
    """Seconds; the fixed price of an operator is a few of them (a starting value)."""
    min_short_share = 0.30
    """Part of the step in short operators and between operators (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """The training runs on the CPU."""
        return signals.get("training_thread.on_cpu").value is not False

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares number, length and pauses with the thresholds."""
        share = needed(signals, "operators.short_share")
        count = needed(signals, "operators.count")
        median_s = needed(signals, "operators.median_s")
        if share < self.min_short_share or count <= self.min_count:
            return
        if median_s >= self.max_median_s or not trains_on_cpu(signals):
            return
        yield Candidate(
            summary=(
                f"A step has {count:.0f} operators, half of them shorter than "
                f"{duration(median_s)}; {percent(share)} of it goes into short operators and the "
                "pauses between them."
            ),
            evidence=(
                *observed(signals, "operators.short_share", self.min_short_share),
                *observed(signals, "operators.count", self.min_count),
                *observed(signals, "operators.median_s", self.max_median_s),
            ),
            share=share,
            gain=Gain(1.0, amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="fewer-operators",
                    params={},
                    safety="semantics",
                    text=(
                        "Larger batches if the training allows it; else fewer operators, by hand "
                        "or with torch.compile."
                    ),
                ),
            ),
            confidence="low",
            max_severity="info",
        )
