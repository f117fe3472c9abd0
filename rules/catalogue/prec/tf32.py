"""prec-tf32."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class Tf32(Rule):
    """Matrix products run in fp32 without tensor cores on a device that has TF32.

    ## What it finds
    In a trace: matrix products in fp32 that tensor cores do not run, on a device of compute
    capability 8.0 or later.

    ## Why it costs time
    TF32 takes fp32 numbers, multiplies 10 bits of each mantissa on tensor cores and adds up in
    fp32: up to 8 times the rate of fp32 on an A100. Torch uses it for convolutions by itself, for
    matrix products only if it is told so.

    ## Evidence needed
    - Compute capability 8.0 or later, as the trace states it or its kernels need it.
    - Such products take at least 20 % of the time in which the device is busy.

    The expected gain is Amdahl's bound on their share of the window: 1.3 times faster at the lower
    end, at the upper end 4 times or as much as the peak rates differ.

    ## Fix
    `torch.set_float32_matmul_precision("high")`, once, before the training.

    ## Fix safety
    Numerics. Products of 10 bits of mantissa in place of 23; the range stays that of fp32.

    ## When it is wrong
    Some numerics need all 23 bits. Under autocast products run in 16 bits anyhow, which is faster
    still (prec-fp32-tc).

    ## References
    - torch.set_float32_matmul_precision:
      https://docs.pytorch.org/docs/stable/generated/torch.set_float32_matmul_precision.html
    - TF32 in torch: https://docs.pytorch.org/docs/stable/notes/cuda.html#tf32-on-ampere
    """

    id = "prec-tf32"
    title = "TF32 is off"
    needs = (
        "kernels.full_product_share",
        "kernels.full_product_window_share",
        "kernels.capability",
        "timeline.window",
    )
    what_if = "tensor-cores"
    fires_on = (
        Case(
            "a transformer in fp32 on an A100",
            {
                "kernels.count": 900,
                "kernels.full_product_share": 0.7,
                "kernels.full_product_window_share": 0.65,
                "kernels.capability": 8.0,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.3, 1.9),
        ),
    )
    silent_on = (
        Case(
            "a V100 has no TF32",
            {
                "kernels.count": 900,
                "kernels.full_product_share": 0.7,
                "kernels.full_product_window_share": 0.65,
                "kernels.capability": 7.0,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "few products are left in fp32",
            {
                "kernels.count": 900,
                "kernels.full_product_share": 0.12,
                "kernels.full_product_window_share": 0.11,
                "kernels.capability": 9.0,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.20
    """Of the time in which the device is busy (a starting value)."""
    with_tf32 = 8.0
    """NVIDIA's compute capability from which there is TF32."""
    least_ratio, most_ratio = 1.3, 4.0
    """How much faster such products become (starting values; the peaks differ by 1 to 8)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace with kernels."""
        return signals.get("kernels.count").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at products in fp32 that tensor cores do not run."""
        share = needed(signals, "kernels.full_product_share")
        if needed(signals, "kernels.capability") < self.with_tf32 or share < self.min_share:
            return
        of_window = needed(signals, "kernels.full_product_window_share")
        peaks = number(signals, "kernels.tf32_ratio")
        most = self.most_ratio if peaks is None else min(self.most_ratio, peaks)
        yield Candidate(
            summary=(
                f"Matrix products in fp32 take {percent(share)} of the device's busy time "
                f"({percent(of_window)} of {text(signals, 'timeline.window')}), and run without "
                "the TF32 that it has."
            ),
            evidence=(
                *observed(signals, "kernels.full_product_share", self.min_share),
                *observed(signals, "kernels.full_product_window_share"),
                *observed(signals, "kernels.capability", self.with_tf32, "NVIDIA"),
                *observed(signals, "kernels.tf32_share"),
                *observed(signals, "kernels.tf32_ratio"),
            ),
            share=of_window,
            gain=Gain(
                amdahl(of_window, min(self.least_ratio, most)),
                amdahl(of_window, most),
            ),
            fixes=(
                FixAdvice(
                    fix="matmul-precision",
                    params={},
                    safety="numerics",
                    text="Let matrix products use TF32, and compare the loss.",
                    code='torch.set_float32_matmul_precision("high")',
                ),
            ),
            confidence="medium",
        )
