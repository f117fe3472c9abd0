"""prec-fp8."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class Fp8(Rule):
    """Large layers run in 16 bits on a device that has fp8.

    ## What it finds
    In a trace: products of layers in 16 bits, of at least 4,096 in all directions and multiples of
    16, on a device of compute capability 8.9 or later.

    ## Why it costs time
    Tensor cores compute fp8 at twice the rate of 16 bits. Scaling and rounding the inputs costs
    time too, which only large products win back.

    ## Evidence needed
    - Compute capability 8.9 or later, and shapes in the trace (`record_shapes=True`).
    - Such products take at least 60 % of the time in which the device is busy.

    The expected gain is Amdahl's bound on their share of the window if they become 1.1 to 2 times
    faster. Torchtitan reports 1.28 times for a model of 8 thousand million parameters.

    ## Fix
    torchao's `convert_to_float8_training(model)`, on a compiled model.

    ## Fix safety
    Numerics. Three bits of mantissa and scales; the loss has to be compared over a long time.

    ## When it is wrong
    Never more than a note: whether the loss bears it, no trace tells. Models with small layers
    become slower.

    ## References
    - torchao, float8 training: https://github.com/pytorch/ao/tree/main/torchao/float8
    - torchtitan, float8: https://github.com/pytorch/torchtitan/blob/main/docs/float8.md
    """

    id = "prec-fp8"
    title = "Large layers could run in fp8"
    needs = (
        "kernels.large_layer_share",
        "kernels.large_layer_window_share",
        "kernels.capability",
        "timeline.window",
    )
    can_warn = False
    fires_on = (
        Case(
            "layers of 4,096 in bfloat16 on an H100",
            {
                "kernels.count": 900,
                "kernels.large_layer_share": 0.7,
                "kernels.large_layer_window_share": 0.65,
                "kernels.capability": 9.0,
                "timeline.window": "5 whole steps",
            },
            severity="info",
            gain=(1.1, 1.4),
        ),
    )
    silent_on = (
        Case(
            "an A100 has no fp8",
            {
                "kernels.count": 900,
                "kernels.large_layer_share": 0.7,
                "kernels.large_layer_window_share": 0.65,
                "kernels.capability": 8.0,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "most layers are small",
            {
                "kernels.count": 900,
                "kernels.large_layer_share": 0.3,
                "kernels.large_layer_window_share": 0.28,
                "kernels.capability": 9.0,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.60
    """Of the time in which the device is busy (a starting value)."""
    with_fp8 = 8.9
    """NVIDIA's compute capability from which there is fp8."""
    least_ratio, most_ratio = 1.1, 2.0
    """How much faster such products become, their scaling included (the peaks differ by 2)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace with kernels."""
        return signals.get("kernels.count").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the time of large products in 16 bits."""
        share = needed(signals, "kernels.large_layer_share")
        if needed(signals, "kernels.capability") < self.with_fp8 or share < self.min_share:
            return
        of_window = needed(signals, "kernels.large_layer_window_share")
        yield Candidate(
            summary=(
                f"Products of large layers in 16 bits take {percent(share)} of the device's busy "
                f"time ({percent(of_window)} of {text(signals, 'timeline.window')}), and the "
                "device has fp8."
            ),
            evidence=(
                *observed(signals, "kernels.large_layer_share", self.min_share),
                *observed(signals, "kernels.large_layer_window_share"),
                *observed(signals, "kernels.capability", self.with_fp8, "NVIDIA"),
                *observed(signals, "kernels.fp8_share"),
            ),
            share=of_window,
            gain=Gain(amdahl(of_window, self.least_ratio), amdahl(of_window, self.most_ratio)),
            fixes=(
                FixAdvice(
                    fix="linear-float8",
                    params={},
                    safety="numerics",
                    text="Let the large layers compute in fp8, and compare the loss over a long "
                    "time.",
                ),
            ),
            confidence="low",
            max_severity="info",
        )
