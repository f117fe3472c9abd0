"""prec-fp32-tc."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class Fp32Tc(Rule):
    """The device has tensor cores, and its matrices are multiplied without them, in fp32.

    ## What it finds
    In a trace: matrix products, convolutions and attention that run in fp32 on a device which
    computes the same in 16 bits several times faster.

    ## Why it costs time
    Tensor cores multiply matrices of 16-bit numbers, and add up in 32 bits, at 8 times the rate of
    fp32 on a V100, 16 times on an A100. What is bound by memory gains as well, as 16 bits are half
    the bytes.

    ## Evidence needed
    - The device has tensor cores: compute capability 7.0 of NVIDIA, or a known model of AMD.
      A trace that does not state it tells by its kernels what it has at least.
    - Kernels of matrices in fp32 take at least 30 % of the time in which the device is busy. Where
      the trace holds no shapes, they count by their names, and some may be too small to gain.

    The expected gain is Amdahl's bound: at the lower end those kernels become 1.5 times faster, at
    the upper end 4 times or as much as the peak rates differ, and pointwise and normalising kernels
    in fp32 take half as long. NVIDIA speaks of up to 3 times in all.

    ## Fix
    `torch.autocast` around the forward and the loss: bfloat16 from compute capability 8.0 on (no
    scaling of the loss), before that float16 with `torch.amp.GradScaler`.

    ## Fix safety
    Numerics. Fewer bits in the inputs of products; the loss has to be compared.

    ## When it is wrong
    A device that waits for its host gains less: where it is idle for a fifth of the window, this is
    a note. Losses that need every bit (some physics, some normalising flows) stay in fp32.

    ## References
    - PyTorch performance tuning guide, mixed precision:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - torch-tb-profiler, tensor cores: https://github.com/pytorch/kineto/tree/main/tb_plugin
    - Micikevicius et al. 2018, Mixed precision training: https://arxiv.org/abs/1710.03740
    """

    id = "prec-fp32-tc"
    title = "Tensor cores are not used"
    needs = ("kernels.eligible_share", "kernels.eligible_window_share", "timeline.window")
    what_if = "tensor-cores"
    fires_on = (
        Case(
            "a convolutional network in fp32 keeps a V100 busy",
            {
                "kernels.count": 3519,
                "kernels.eligible_share": 0.63,
                "kernels.eligible_window_share": 0.61,
                "kernels.full_precision_memory_window_share": 0.32,
                "kernels.tensor_core_share": 0.0,
                "kernels.capability": 7.0,
                "kernels.peak_ratio": 7.96,
                "timeline.idle_share": 0.026,
                "timeline.window": "5 whole steps",
            },
            severity="critical",
            gain=(1.25, 2.7),
        ),
        Case(
            "the same behind a loader that is too slow is a note",
            {
                "kernels.count": 3519,
                "kernels.eligible_share": 0.66,
                "kernels.eligible_window_share": 0.37,
                "kernels.tensor_core_share": 0.0,
                "kernels.capability": 7.0,
                "timeline.idle_share": 0.44,
                "timeline.window": "6 whole steps",
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "autocast is on, and a quarter is left in fp32",
            {
                "kernels.count": 3519,
                "kernels.eligible_share": 0.25,
                "kernels.eligible_window_share": 0.24,
                "kernels.tensor_core_share": 0.5,
                "kernels.capability": 8.0,
                "timeline.idle_share": 0.03,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.30
    """Of the time in which the device is busy (a starting value; XProf calls a low-precision share
    below a tenth low)."""
    idle_share = 0.20
    """Of the window; from here on the host comes first (the engine's threshold of critical)."""
    least_ratio, most_ratio = 1.5, 4.0
    """How much faster such kernels become: convolutions and products of a training are partly bound
    by memory, so that they do not reach the ratio of the peaks (starting values)."""
    halved = 0.5
    """What 16 bits leave of the time of kernels that are bound by memory."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace with kernels."""
        return signals.get("kernels.count").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the time of matrix kernels in fp32."""
        share = needed(signals, "kernels.eligible_share")
        if share < self.min_share:
            return
        of_window = needed(signals, "kernels.eligible_window_share")
        memory = number(signals, "kernels.full_precision_memory_window_share") or 0.0
        peaks = number(signals, "kernels.peak_ratio")
        most = self.most_ratio if peaks is None else min(self.most_ratio, peaks)
        saved = of_window * (1 - 1 / max(most, self.least_ratio)) + memory * self.halved
        capability = number(signals, "kernels.capability")
        on_tensor_cores = number(signals, "kernels.tensor_core_share") or 0.0
        few = "none" if on_tensor_cores == 0 else f"only {percent(on_tensor_cores)} of it"
        waits = (number(signals, "timeline.idle_share") or 0.0) >= self.idle_share
        yield Candidate(
            summary=(
                f"Matrix products and convolutions in fp32 take {percent(share)} of the device's "
                f"busy time ({percent(of_window)} of {text(signals, 'timeline.window')}); {few} "
                "runs on its tensor cores."
            ),
            evidence=(
                *observed(signals, "kernels.eligible_share", self.min_share),
                *observed(signals, "kernels.eligible_window_share"),
                *observed(signals, "kernels.tensor_core_share"),
                *observed(signals, "kernels.capability", 7.0, "NVIDIA"),
                *observed(signals, "kernels.peak_ratio"),
                *observed(signals, "timeline.idle_share"),
            ),
            share=of_window,
            gain=Gain(amdahl(of_window, self.least_ratio), amdahl(saved)),
            fixes=(_advice(capability),),
            confidence="medium",
            max_severity="info" if waits else "critical",
        )


WITH_BFLOAT16 = 8.0
"""NVIDIA's compute capability from which tensor cores take it; AMD's devices on the sheet do."""


def _advice(capability: float | None) -> FixAdvice:
    if capability is None or capability >= WITH_BFLOAT16:
        return FixAdvice(
            fix="autocast-bf16",
            params={},
            safety="numerics",
            text="Run the forward and the loss under autocast to bfloat16, and compare the loss.",
            code='with torch.autocast("cuda", torch.bfloat16):',
        )
    return FixAdvice(
        fix="autocast-fp16",
        params={},
        safety="numerics",
        text="Run the forward and the loss under autocast to float16 with a GradScaler, and "
        "compare the loss.",
        code='with torch.autocast("cuda", torch.float16):',
    )
