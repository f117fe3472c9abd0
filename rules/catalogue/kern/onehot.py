"""kern-onehot."""

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
    trains_on_cpu,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Onehot(Rule):
    """Indices become one-hot vectors that are multiplied with a matrix.

    ## What it finds
    `one_hot(...)` followed by a linear layer or a product over vectors of that length.

    ## Why it costs time
    The product of a one-hot vector with a matrix is one row of the matrix. Written as a product it
    multiplies every other row with zero, in the forward and again for the gradient, after writing
    the zeros to memory: work that grows with the number of classes for a result that does not.

    ## Evidence needed
    - One step under torch's profiler shows `one_hot` and the product that it goes into.
    - Both, their backward included, take at least 5 % of the step.

    The expected gain is Amdahl's bound on that share with ratios of 3 to 30. Measured on a CPU
    (torch 2.13, one thread): 29 times slower than an embedding (28.5 to 31) for whole steps that do
    little else.

    ## Fix
    `nn.Embedding(classes, width)` on the indices. Its weight is the transposed weight of the linear
    layer; a bias can be added after it.

    ## Fix safety
    Numerics. The same row, without sums of zeros; a checkpoint needs its weight transposed.

    ## When it is wrong
    With few classes the product is nothing, and the share stays below the threshold. One-hot
    targets of a loss are no product and are not counted. Soft or mixed labels are not one-hot, so
    `one_hot` is then only a part of what makes them.

    ## References
    - torch.nn.Embedding: https://docs.pytorch.org/docs/stable/generated/torch.nn.Embedding.html
    """

    id = "kern-onehot"
    title = "One-hot vectors are multiplied with a matrix"
    needs = ("operators.onehot_share", "step.forward_share")
    fires_on = (
        Case(
            "tokens of 4,000 classes take 60 % of the step",
            {
                "operators.onehot_share": 0.6,
                "operators.onehot_classes": 4000,
                "operators.onehot_where": {"file": "train.py", "line": 20},
                "step.forward_share": (0.4, 0.38, 0.42),
            },
            severity="critical",
            gain=(1.7, 2.4),
        ),
    )
    silent_on = (
        Case(
            "an embedding",
            {"operators.onehot_share": 0.0, "step.forward_share": (0.4, 0.38, 0.42)},
        ),
        Case(
            "ten classes, 2 % of the step",
            {
                "operators.onehot_share": 0.02,
                "operators.onehot_classes": 10,
                "step.forward_share": (0.4, 0.38, 0.42),
            },
        ),
    )

    min_share = 0.05
    """Part of the step; most of it goes with the fix (a starting value)."""
    speedup_low, speedup_high = 3.0, 30.0
    """Embedding against product (measured up to 31, see the page)."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the share of the pattern."""
        share = needed(signals, "operators.onehot_share")
        if share < self.min_share or not trains_on_cpu(signals):
            return
        classes = number(signals, "operators.onehot_classes")
        typical = (self.speedup_low * self.speedup_high) ** 0.5
        of_length = f" of length {classes:,.0f}" if classes else ""
        yield Candidate(
            summary=(
                f"One-hot vectors{of_length} are multiplied with a matrix, which takes "
                f"{percent(share)} of the step; each product picks one row."
            ),
            evidence=(
                *observed(signals, "operators.onehot_share", self.min_share),
                *observed(signals, "operators.onehot_classes"),
            ),
            share=share * (1 - 1 / typical),
            gain=gain(share, share, self.speedup_low, self.speedup_high),
            where=place(signals, "operators.onehot_where"),
            fixes=(
                FixAdvice(
                    fix="embedding-lookup",
                    params={},
                    safety="numerics",
                    text="Look the rows up: an embedding on the indices in place of the product.",
                    code=f"nn.Embedding({classes:.0f}, width)" if classes else None,
                ),
            ),
            confidence="high",
            next_bottleneck=largest_phase(signals),
        )
