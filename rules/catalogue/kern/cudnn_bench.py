"""kern-cudnn-bench."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class CudnnBench(Rule):
    """cuDNN's benchmark mode does not suit the sizes of the convolutions' inputs.

    ## What it finds
    In a trace with the arguments of operators: convolutions whose inputs keep their sizes while
    `torch.backends.cudnn.benchmark` is off; or inputs of many sizes while it is on.

    ## Why it costs time
    With the mode on, cuDNN tries its algorithms at the first convolution of each size, and keeps
    the fastest; off, it guesses. For sizes that never come again each try is lost.

    ## Evidence needed
    - Convolutions take at least 20 % of the time in which the device is busy.
    - The trace tells the switch: `record_shapes=True`, torch 2.1 or later.
    - Off, with at most 5 sizes of input for one size of weight in two whole steps or more; or on,
      with more than 20.

    The expected gain is Amdahl's bound on the convolutions if they become up to 1.3 times faster;
    it may be none, so this is a note until a trial has told.

    ## Fix
    `torch.backends.cudnn.benchmark = True` before the training; for inputs of many sizes `False`.

    ## Fix safety
    Numerics. Other algorithms add up in another order, and need not be the same in each run.

    ## When it is wrong
    A trace of few steps may not show all the sizes that come.

    ## References
    - PyTorch performance tuning guide, cuDNN auto-tuner:
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    """

    id = "kern-cudnn-bench"
    title = "cuDNN's benchmark mode does not suit the inputs"
    needs = (
        "kernels.convolution_share",
        "kernels.convolution_window_share",
        "kernels.benchmark",
        "kernels.convolution_input_shapes",
        "timeline.steps",
        "timeline.window",
    )
    can_warn = False
    fires_on = (
        Case(
            "images of one size, and cuDNN guesses",
            {
                "kernels.count": 900,
                "kernels.convolution_share": 0.6,
                "kernels.convolution_window_share": 0.58,
                "kernels.benchmark": False,
                "kernels.convolution_input_shapes": 1,
                "timeline.steps": 5,
                "timeline.window": "5 whole steps",
            },
            severity="info",
        ),
        Case(
            "each batch has another size, and each is tried",
            {
                "kernels.count": 900,
                "kernels.convolution_share": 0.6,
                "kernels.convolution_window_share": 0.58,
                "kernels.benchmark": True,
                "kernels.convolution_input_shapes": 40,
                "timeline.steps": 40,
                "timeline.window": "40 whole steps",
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "images of one size, and cuDNN has tried",
            {
                "kernels.count": 900,
                "kernels.convolution_share": 0.6,
                "kernels.convolution_window_share": 0.58,
                "kernels.benchmark": True,
                "kernels.convolution_input_shapes": 1,
                "timeline.steps": 5,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "one step does not tell whether sizes stay",
            {
                "kernels.count": 900,
                "kernels.convolution_share": 0.6,
                "kernels.convolution_window_share": 0.58,
                "kernels.benchmark": False,
                "kernels.convolution_input_shapes": 1,
                "timeline.steps": 1,
                "timeline.window": "one whole step",
            },
        ),
    )

    min_share = 0.20
    """Of the time in which the device is busy (a starting value)."""
    fixed_sizes, many_sizes = 5, 20
    """Sizes of input for one size of weight (starting values)."""
    least_steps = 2
    """To see whether sizes stay the same."""
    most_ratio = 1.3
    """How much faster convolutions become at most (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace with convolutions in it."""
        return bool(signals.get("kernels.convolution_share").value)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Compares the switch with the sizes that were seen."""
        share = needed(signals, "kernels.convolution_share")
        sizes = needed(signals, "kernels.convolution_input_shapes")
        on = signals.get("kernels.benchmark").value is True
        if share < self.min_share or needed(signals, "timeline.steps") < self.least_steps:
            return
        if sizes <= self.many_sizes if on else sizes > self.fixed_sizes:
            return
        of_window = needed(signals, "kernels.convolution_window_share")
        why = (
            f"tries its algorithms on {sizes:.0f} sizes of input"
            if on
            else "guesses its algorithms although the inputs keep their sizes"
        )
        yield Candidate(
            summary=(
                f"Convolutions take {percent(share)} of the device's busy time "
                f"({percent(of_window)} of {text(signals, 'timeline.window')}), and cuDNN {why}."
            ),
            evidence=(
                *observed(signals, "kernels.convolution_share", self.min_share),
                *observed(signals, "kernels.benchmark"),
                *observed(
                    signals,
                    "kernels.convolution_input_shapes",
                    self.many_sizes if on else self.fixed_sizes,
                    "PyTorch's tuning guide",
                ),
            ),
            share=of_window,
            gain=Gain(1.0, amdahl(of_window, self.most_ratio)),
            fixes=(
                FixAdvice(
                    fix="cudnn-benchmark",
                    params={"benchmark": not on},
                    safety="numerics",
                    text="Switch cuDNN's benchmark mode "
                    + ("off: most sizes come once." if on else "on, and compare the time."),
                    code=f"torch.backends.cudnn.benchmark = {not on}",
                ),
            ),
            confidence="low",
            max_severity="info",
        )
