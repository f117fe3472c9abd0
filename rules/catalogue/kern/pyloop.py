"""kern-pyloop."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    duration,
    gain,
    largest_phase,
    needed,
    number,
    observed,
    percent,
    place,
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Pyloop(Rule):
    """The forward goes over time, samples or indices in a Python loop.

    ## What it finds
    The same sequence of operators on the same shapes, ten times or more in one forward, where every
    turn works on the same weights or on slices of the same tensor: a recurrent cell that is stepped
    through time, a batch whose samples go through the network one by one, an index that runs over a
    dimension.

    ## Why it costs time
    Each operator has a price that does not depend on how much it computes: Python, the dispatcher,
    an output tensor, a node for the backward, and that node's own turn. On slices this is most of
    the time, and the loop pays it again at each turn, forward and backward.

    ## Evidence needed
    - One step under torch's profiler shows the sequence at least ten times in a row in a forward.
    - No turn has weights of its own: the layers of a deep network look alike as well.
    - The median operator of the loop takes at most 200 µs, so that its fixed price matters.
    - The loop, its backward included, takes at least 10 % of the step.

    The expected gain is Amdahl's bound on that share. Measured on a CPU (torch 2.13, one thread): a
    loop over `LSTMCell` against `nn.LSTM` 3.8 times slower (3.6 to 5.4), a loop over the samples of
    a batch 20 times (17 to 21). The interval of ratios is 1.5 to 10, as some of each turn is work.

    ## Fix
    Let one call do all turns: `nn.LSTM` or `nn.GRU` over the whole sequence, the network over the
    whole batch, `gather` or a matrix product in place of an index that runs. `torch.vmap` does it
    for functions of one sample.

    ## Fix safety
    Numerics. The same sums in another order.

    ## When it is wrong
    Where each turn needs the result of the one before and no operator of torch does that recurrence
    (a solver, a decoder that feeds itself), the loop stays; `torch.compile` can still shorten it.
    That cannot be seen from the operators. Silent where the operators of the turns are long, in
    loops without gradients (rollouts, data preparation), and on accelerators, where operators are
    not looked at.

    ## References
    - torch.profiler's own pattern "for-loop indexing" starts at 10 as well:
      https://github.com/pytorch/pytorch/blob/main/torch/profiler/_pattern_matcher.py
    - torch.nn.LSTM: https://docs.pytorch.org/docs/stable/generated/torch.nn.LSTM.html
    - torch.vmap: https://docs.pytorch.org/docs/stable/generated/torch.vmap.html
    """

    id = "kern-pyloop"
    title = "Python loop over time, samples or indices"
    needs = ("operators.loop_share", "step.forward_share")
    suppresses = (
        "loop-residual",
        "kern-small-ops-cpu",
    )
    fires_on = (
        Case(
            "an LSTM cell is stepped 48 times and takes four fifths of the step",
            {
                "operators.loop_share": 0.8,
                "operators.loop_turns": 48,
                "operators.loop_body": 2,
                "operators.loop_median_s": 60e-6,
                "operators.loop_where": {"file": "train.py", "line": 23},
                "step.forward_share": (0.4, 0.38, 0.42),
            },
            severity="critical",
            gain=(1.8, 2.6),
        ),
        Case(
            "a loop over the samples takes a fifth of the step",
            {
                "operators.loop_share": 0.2,
                "operators.loop_turns": 32,
                "operators.loop_body": 9,
                "operators.loop_median_s": 12e-6,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
            severity="warn",
        ),
    )
    silent_on = (
        Case(
            "no loop: the layers of a deep network have weights of their own",
            {"operators.loop_share": 0.0, "step.forward_share": (0.4, 0.38, 0.42)},
        ),
        Case(
            "a loop that takes 7 % of the step",
            {
                "operators.loop_share": 0.07,
                "operators.loop_turns": 16,
                "operators.loop_median_s": 10e-6,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
        Case(
            "turns of long operators: weights shared between the layers of a large network",
            {
                "operators.loop_share": 0.9,
                "operators.loop_turns": 12,
                "operators.loop_median_s": 1.5e-3,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
    )

    min_share = 0.10
    """Part of the step (the threshold of a warn)."""
    max_median_s = 200e-6
    """Seconds; an operator's fixed price on a CPU is 5 to 20 µs with its backward (a starting
    value)."""
    speedup_low, speedup_high = 1.5, 10.0
    """Of the loop (measured 3.6 to 21, see the page; lower where turns do work of their own)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the share of the loops, then whether their operators are short."""
        share = needed(signals, "operators.loop_share")
        median_s = number(signals, "operators.loop_median_s")
        if share < self.min_share or median_s is None or not trains_on_cpu(signals):
            return
        if median_s > self.max_median_s:
            return
        turns = number(signals, "operators.loop_turns") or 0
        typical = (self.speedup_low * self.speedup_high) ** 0.5
        yield Candidate(
            summary=(
                f"The forward repeats the same operators {turns:.0f} times on the same tensors, in "
                f"pieces of {duration(median_s)}; that and its backward take {percent(share)} of "
                "the step."
            ),
            evidence=(
                *observed(signals, "operators.loop_share", self.min_share),
                *observed(signals, "operators.loop_turns", 10),
                *observed(signals, "operators.loop_body"),
                *observed(signals, "operators.loop_median_s", self.max_median_s),
            ),
            share=share * (1 - 1 / typical),
            gain=gain(share, share, self.speedup_low, self.speedup_high),
            where=place(signals, "operators.loop_where"),
            fixes=(
                FixAdvice(
                    fix="loop-vectorised",
                    params={},
                    safety="numerics",
                    text=(
                        "Let one call do all turns: nn.LSTM or nn.GRU over the sequence, the "
                        "network over the whole batch, gather in place of an index that runs."
                    ),
                ),
            ),
            confidence="medium",
            next_bottleneck=largest_phase(signals),
        )
