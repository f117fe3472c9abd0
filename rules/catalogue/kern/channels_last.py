"""kern-channels-last."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, needed, observed, percent, text
from trainprof.rules.rule import Candidate, Case, Rule


class ChannelsLast(Rule):
    """Images are rearranged before and after their convolutions.

    ## What it finds
    In a trace: kernels of cuDNN or MIOpen that bring images from channels first into channels last
    and back.

    ## Why it costs time
    Tensor cores want the channels last. A network that keeps them first has each convolution's
    input, weight and output rearranged, which computes nothing.

    ## Evidence needed
    - Such kernels take at least 3 % of the time in which the device is busy.

    The expected gain is Amdahl's bound on their share of the window, from half of them to all.

    ## Fix
    `model.to(memory_format=torch.channels_last)`, and the same for the images.

    ## Fix safety
    Numerics. Other kernels, which add up in another order.

    ## When it is wrong
    Operators that know channels first only bring the rearranging back; a trial tells.

    ## References
    - Channels last memory format in PyTorch:
      https://docs.pytorch.org/tutorials/intermediate/memory_format_tutorial.html
    """

    id = "kern-channels-last"
    title = "Images are rearranged for convolutions"
    needs = ("kernels.layout_share", "kernels.layout_window_share", "timeline.window")
    fires_on = (
        Case(
            "a network under autocast keeps channels first",
            {
                "kernels.count": 900,
                "kernels.layout_share": 0.15,
                "kernels.layout_window_share": 0.14,
                "timeline.window": "5 whole steps",
            },
            severity="warn",
            gain=(1.05, 1.17),
        ),
    )
    silent_on = (
        Case(
            "a few",
            {
                "kernels.count": 900,
                "kernels.layout_share": 0.02,
                "kernels.layout_window_share": 0.02,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.03
    """Of the time in which the device is busy (a starting value)."""
    least_saved = 0.5
    """Part of them, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace with kernels."""
        return signals.get("kernels.count").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at the time of kernels that rearrange images."""
        share = needed(signals, "kernels.layout_share")
        if share < self.min_share:
            return
        of_window = needed(signals, "kernels.layout_window_share")
        yield Candidate(
            summary=(
                f"Rearranging images for convolutions takes {percent(share)} of the device's busy "
                f"time ({percent(of_window)} of {text(signals, 'timeline.window')})."
            ),
            evidence=(
                *observed(signals, "kernels.layout_share", self.min_share),
                *observed(signals, "kernels.layout_window_share"),
                *observed(signals, "kernels.convolution_share"),
            ),
            share=of_window,
            gain=Gain(amdahl(of_window * self.least_saved), amdahl(of_window)),
            fixes=(
                FixAdvice(
                    fix="one-layout",
                    params={},
                    safety="numerics",
                    text="Keep the channels last in the model and in its images.",
                    code="model = model.to(memory_format=torch.channels_last)",
                ),
            ),
            confidence="medium",
            max_severity="warn",
        )
