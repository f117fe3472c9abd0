"""kern-noncontig."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    gain,
    largest_phase,
    needed,
    number,
    observed,
    percent,
    place,
    text,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Noncontig(Rule):
    """Tensors are copied into another order in memory again and again.

    ## What it finds
    Copies in which source and target have the same elements in another order: `contiguous()` and
    `reshape()` after `transpose()` or `permute()`, and the hidden copies of operators that want
    their input in order.

    ## Why it costs time
    Such a copy computes nothing, and reads or writes memory in strides, a few bytes from each cache
    line. Where blocks of a network disagree on the order of dimensions, each of them pays it twice,
    and the backward as often again.

    ## Evidence needed
    - One step under torch's profiler shows copies between tensors of different strides; in a trace
      `contiguous()` or `reshape()` copies, which they do for such tensors alone.
    - They take at least 5 % of the step. Copies that change the data type or spread a bias do not
      count.

    The expected gain is Amdahl's bound on that share if half to all of the copies go.

    ## Fix
    Keep one order of dimensions through the whole network, and choose operators that work on it
    (normalise over the last dimension, `einsum` or `Linear` in place of a 1x1 convolution).

    ## Fix safety
    Numerics. The same values; sums may run in another order.

    ## When it is wrong
    Some copies pay for themselves, as the operator behind them is faster on memory in order. It
    cannot be seen which, so this is never more than a note. Copies inside attention that is written
    out go with it (kern-attn).

    ## References
    - Tensor views and contiguity: https://docs.pytorch.org/docs/stable/tensor_view.html
    """

    id = "kern-noncontig"
    title = "Tensors are rearranged in memory"
    needs = ("operators.rearranged_share",)
    on_traces = True
    can_warn = False
    fires_on = (
        Case(
            "each block transposes and copies back",
            {
                "operators.rearranged_share": 0.25,
                "operators.rearranged_in": "contiguous",
                "operators.rearranged_where": {"file": "train.py", "line": 22},
                "step.forward_share": (0.4, 0.38, 0.42),
            },
            severity="info",
            gain=(1.1, 1.4),
        ),
        Case(
            "kernels of a device that matmul() asked for, in a trace",
            {
                "operators.rearranged_share": 0.2,
                "operators.rearranged_in": "matmul",
                "timeline.window": "5 whole steps",
            },
            severity="info",
            gain=(1.1, 1.3),
        ),
    )
    silent_on = (
        Case(
            "one reshape after attention, 3 % of the step",
            {
                "operators.rearranged_share": 0.03,
                "operators.rearranged_in": "reshape",
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
    )

    min_share = 0.05
    """Part of the step (a starting value)."""
    least_saved = 0.5
    """Part of the copies that another layout saves at least; some have a reason."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the share of the copies."""
        share = needed(signals, "operators.rearranged_share")
        if share < self.min_share or not trains_on_cpu(signals):
            return
        names = text(signals, "operators.rearranged_in")
        inside = f", most of them in {names}" if names else ""
        window = text(signals, "timeline.window") or "the step"
        yield Candidate(
            summary=(
                f"Copies that only rearrange tensors in memory take {percent(share)} of {window}"
                f"{inside}."
            ),
            evidence=(
                *observed(signals, "operators.rearranged_share", self.min_share),
                *observed(signals, "operators.rearranged_in"),
            ),
            share=share,
            gain=gain(share * self.least_saved, share, 100.0),
            where=place(signals, "operators.rearranged_where"),
            fixes=(self._advice(signals),),
            confidence="medium",
            max_severity="info",
            next_bottleneck=largest_phase(signals),
        )

    @staticmethod
    def _advice(signals: Signals) -> FixAdvice:
        """Channels last is a switch for networks over images; the rest is a person's work."""
        over_images = number(signals, "model.image_convolutions") != 0
        return FixAdvice(
            fix="one-layout" if over_images else "fewer-copies",
            params={},
            safety="numerics",
            text=(
                "Keep one order of dimensions through the network, with operators that work on it."
            ),
        )
