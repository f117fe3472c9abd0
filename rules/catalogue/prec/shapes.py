"""prec-shapes."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class Shapes(Rule):
    """Matrix products in low precision have sizes that tensor cores do not like.

    ## What it finds
    In a trace: products in 16 bits with a size that is no multiple of 8 (TF32: 4, fp8: 16), such as
    a vocabulary of 30,522 or 50,257 words.

    ## Why it costs time
    Tensor cores load 16 bytes at once. Rows that do not begin at such a place are loaded in pieces,
    by slower kernels.

    ## Evidence needed
    - Products of that kind take at least 10 % of the time in which the device is busy. Sizes are
      those of the operator, where the trace holds shapes (`record_shapes=True`), else CUTLASS's
      kernels tell the alignment in their names.
    - The number of samples does not count: a batch may have any size.

    The expected gain is Amdahl's bound on their share of the window if they become 1.1 to 2 times
    faster.

    ## Fix
    Pad the vocabulary, or the hidden size, to the next multiple of 8, better of 64. A last,
    incomplete tile of the device's processors costs less than this.

    ## Fix safety
    Semantics, lightly: a padded vocabulary has words that never occur.

    ## When it is wrong
    A product may be bound by memory for other reasons, and gain nothing; only a trial tells.

    ## References
    - NVIDIA, Matrix multiplication background user's guide:
      https://docs.nvidia.com/deeplearning/performance/dl-performance-matrix-multiplication
    """

    id = "prec-shapes"
    title = "Sizes do not suit tensor cores"
    needs = ("kernels.misaligned_share", "kernels.misaligned_window_share", "timeline.window")
    fires_on = (
        Case(
            "a vocabulary that is no multiple of 8",
            {
                "kernels.count": 900,
                "kernels.misaligned_share": 0.25,
                "kernels.misaligned_window_share": 0.24,
                "kernels.misaligned_sizes": "4096 x 50257 x 768",
                "timeline.window": "5 whole steps",
            },
            severity="warn",
            gain=(1.02, 1.15),
        ),
    )
    silent_on = (
        Case(
            "one odd product of many",
            {
                "kernels.count": 900,
                "kernels.misaligned_share": 0.06,
                "kernels.misaligned_window_share": 0.06,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.10
    """Of the time in which the device is busy (a starting value)."""
    least_ratio, most_ratio = 1.1, 2.0
    """How much faster such products become on sizes that suit (starting values)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace with kernels."""
        return signals.get("kernels.count").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the time of products on such sizes."""
        share = needed(signals, "kernels.misaligned_share")
        if share < self.min_share:
            return
        of_window = needed(signals, "kernels.misaligned_window_share")
        sizes = text(signals, "kernels.misaligned_sizes")
        such = f", the dearest of {sizes}" if sizes else ""
        yield Candidate(
            summary=(
                f"Matrix products on sizes that do not suit tensor cores take {percent(share)} of "
                f"the device's busy time ({percent(of_window)} of "
                f"{text(signals, 'timeline.window')}){such}."
            ),
            evidence=(
                *observed(signals, "kernels.misaligned_share", self.min_share),
                *observed(signals, "kernels.misaligned_window_share"),
                *observed(signals, "kernels.misaligned_sizes"),
            ),
            share=of_window,
            gain=Gain(amdahl(of_window, self.least_ratio), amdahl(of_window, self.most_ratio)),
            fixes=(
                FixAdvice(
                    fix="padded-sizes",
                    params={},
                    safety="semantics",
                    text="Pad the vocabulary or the hidden size to a multiple of 8, better of 64.",
                ),
            ),
            confidence="medium",
            max_severity="warn",
        )
