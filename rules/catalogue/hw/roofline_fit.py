"""hw-roofline-fit."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, number, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class RooflineFit(Rule):
    """What the device is short of: arithmetic, or bandwidth of its memory.

    ## What it finds
    In a trace: on which side of the device's roofline its kernels lie.

    ## Why it costs time
    A kernel that computes few FLOPs on each byte takes as long as its bytes take to come, and a
    device with more FLOP/s changes nothing; one that computes many gains nothing from bandwidth.
    The ridge between both is the peak rate over the bandwidth.

    ## Evidence needed
    - The device is busy for at least half of the window.
    - More than 60 % of its busy time lies on one side. Matrix products, convolutions and attention
      lie where their shapes put them (`record_shapes=True`, a device whose peaks are known), what
      computes a few operations on each element below the ridge.

    MFU, where it can be told, is the FLOPs of the window over the window times the dense peak of
    the fastest precision in use; its formula stands in the evidence.

    The expected gain is none at the lower end. At the upper end, what is bound by memory moves half
    of the bytes; of what is bound by computing, only the FLOPs at the peak rate are left.

    ## Fix
    Bound by memory: 16 bits in place of 32, fused kernels (`torch.compile`), a device with more
    bandwidth. Bound by computing: fewer bits on tensor cores, a device with a higher peak.

    ## Fix safety
    Numerics, as far as the precision changes; another device changes nothing.

    ## When it is wrong
    Bytes are the least that can be moved, FLOPs those of the operators: recomputation counts,
    causal masks halve nothing.

    ## References
    - Williams, Waterman, Patterson 2009, Roofline: https://doi.org/10.1145/1498765.1498785
    - NVIDIA, GPU performance background user's guide:
      https://docs.nvidia.com/deeplearning/performance/dl-performance-gpu-background
    """

    id = "hw-roofline-fit"
    title = "What bounds the device"
    needs = ("roofline.memory_share", "timeline.busy_share", "timeline.window")
    can_warn = False
    fires_on = (
        Case(
            "a convolutional network computes",
            {
                "kernels.count": 900,
                "roofline.memory_share": 0.32,
                "roofline.compute_share": 0.65,
                "roofline.mfu": 0.35,
                "roofline.mfu_formula": "4.67 TFLOP / (0.838 s * 15.7 TFLOP/s) = 35 %",
                "timeline.busy_share": 0.72,
                "timeline.window": "6 whole steps",
            },
            severity="info",
        ),
        Case(
            "a network of small layers moves bytes",
            {
                "kernels.count": 900,
                "roofline.memory_share": 0.8,
                "timeline.busy_share": 0.9,
                "timeline.window": "6 whole steps",
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "some of both",
            {
                "kernels.count": 900,
                "roofline.memory_share": 0.5,
                "roofline.compute_share": 0.48,
                "timeline.busy_share": 0.9,
                "timeline.window": "6 whole steps",
            },
        ),
        Case(
            "the device has little to do",
            {
                "kernels.count": 60,
                "roofline.memory_share": 0.99,
                "timeline.busy_share": 0.07,
                "timeline.window": "one whole step",
            },
        ),
    )

    min_share = 0.60
    """Of the time in which the device is busy, on one side (a starting value)."""
    least_busy = 0.5
    """Of the window; else the device is not what bounds the step."""
    halved = 0.5
    """What half of the bytes leave of the time of kernels that are bound by memory."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace with kernels."""
        return signals.get("kernels.count").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks for the side on which most of the time lies."""
        memory = needed(signals, "roofline.memory_share")
        compute = number(signals, "roofline.compute_share") or 0.0
        busy = needed(signals, "timeline.busy_share")
        side = max(memory, compute)
        if side <= self.min_share or busy < self.least_busy:
            return
        by_memory = memory == side
        mfu = number(signals, "roofline.mfu")
        of_window = side * busy
        most = amdahl(of_window * self.halved) if by_memory else self._most(of_window, mfu)
        used = f" It reaches {percent(mfu)} of its peak (MFU)." if mfu is not None else ""
        yield Candidate(
            summary=(
                f"{'The memory' if by_memory else 'Computing'} bounds {percent(side)} of the "
                f"device's busy time ({percent(of_window)} of "
                f"{text(signals, 'timeline.window')}).{used}"
            ),
            evidence=(
                *observed(signals, "roofline.memory_share", self.min_share),
                *observed(signals, "roofline.compute_share", self.min_share),
                *observed(signals, "roofline.mfu_formula"),
                *observed(signals, "timeline.busy_share", self.least_busy),
            ),
            share=of_window,
            gain=None if most is None else Gain(1.0, most),
            fixes=(self._advice(by_memory),),
            confidence="low",
            max_severity="info",
        )

    @staticmethod
    def _most(of_window: float, mfu: float | None) -> float | None:
        """If computing took as long as the peak allows."""
        return None if mfu is None else amdahl(max(of_window - mfu, 0.0))

    @staticmethod
    def _advice(by_memory: bool) -> FixAdvice:
        return FixAdvice(
            fix="other-device",
            params={},
            safety="numerics",
            text=(
                "Move fewer bytes (16 bits, fused kernels); of another device, bandwidth counts."
                if by_memory
                else "Compute in fewer bits on tensor cores; of another device, the peak counts."
            ),
        )
