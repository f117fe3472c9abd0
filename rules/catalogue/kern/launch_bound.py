"""kern-launch-bound."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, duration, needed, number, observed, percent, place, text
from trainprof.rules.rule import Candidate, Case, Rule

BUSY = ("timeline.idle_launch_call_share", "timeline.idle_operator_share")


class LaunchBound(Rule):
    """The device runs dry because the host does not launch work fast enough.

    ## What it finds
    In a trace: times in which the device runs nothing while the host is inside operators and the
    calls that launch kernels.

    ## Why it costs time
    A launch costs the host 5 to 20 us, with Python and torch's dispatcher around it often more. A
    kernel that runs for less is over before the next one comes: the device waits for the host at
    every launch, and a faster device would change nothing.

    ## Evidence needed
    - In at least 15 % of the window the device was idle and the host was busy with operators or
      launches. Idle time between collectives that follow each other is left out: another rule
      tells of it.

    The expected gain is Amdahl's bound on that share; a quarter of it at the lower end.

    ## Fix
    Fewer, larger launches: a larger batch, `torch.compile(model, mode="reduce-overhead")` (which
    records CUDA graphs), `fused=True` for the optimizer, the foreach forms of what loops over
    parameters.

    ## Fix safety
    Numerics. Compiled and fused forms round otherwise; a larger batch is another training.

    ## When it is wrong
    Profilers slow the host down, those with stacks by a lot: a short gap at each launch may be the
    profiler's own. Compare a step with and without it before anything is changed.

    ## References
    - Holistic Trace Analysis, idle time breakdown:
      https://hta.readthedocs.io/en/latest/source/features/idle_time_breakdown.html
    - CUDA graphs in PyTorch: https://pytorch.org/blog/accelerating-pytorch-with-cuda-graphs/
    """

    id = "kern-launch-bound"
    title = "The device waits for launches"
    needs = (*BUSY, "timeline.window")
    what_if = "fewer-launches"
    fires_on = (
        Case(
            "a small model on a fast device",
            {
                "timeline.idle_launch_call_share": 0.08,
                "timeline.idle_operator_share": 0.37,
                "timeline.kernel_median_s": 3e-6,
                "timeline.window": "one whole step",
            },
            severity="critical",
        ),
    )
    silent_on = (
        Case(
            "most of the gaps lie between small collectives",
            {
                "timeline.idle_launch_call_share": 0.05,
                "timeline.idle_operator_share": 0.22,
                "collectives.idle_share": 0.14,
                "timeline.window": "5 whole steps",
            },
        ),
        Case(
            "gaps of a tenth",
            {
                "timeline.idle_launch_call_share": 0.02,
                "timeline.idle_operator_share": 0.08,
                "timeline.window": "5 whole steps",
            },
        ),
    )

    min_share = 0.15
    """Of the window (XProf's and TraceLens' thresholds for idle time between launches)."""
    least_saved = 0.25
    """Part of it, for the lower end of the gain (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There is a trace, and not of a machine without a device."""
        on_cpu = signals.get("training_thread.on_cpu").value is True
        return signals.get("timeline.window").value is not None and not on_cpu

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Adds what is charged to operators and to launches."""
        share = sum(needed(signals, name) for name in BUSY)
        share -= number(signals, "collectives.idle_share") or 0.0
        if share < self.min_share:
            return
        median = number(signals, "timeline.kernel_median_s")
        kernels = f"; half of its kernels take less than {duration(median)}" if median else ""
        yield Candidate(
            summary=(
                f"In {percent(share)} of {text(signals, 'timeline.window')} the device had nothing "
                f"to do while the host was busy launching{kernels}."
            ),
            evidence=(
                *observed(signals, "timeline.idle_operator_share"),
                *observed(signals, "timeline.idle_launch_call_share"),
                *observed(signals, "collectives.idle_share"),
                *observed(signals, "timeline.kernel_median_s"),
                *observed(signals, "timeline.kernels_per_step"),
                *observed(signals, "launches.found_empty_share"),
                *observed(signals, "launches.idle_empty_share"),
            ),
            share=share,
            where=place(signals, "frames.idle_where"),
            gain=Gain(amdahl(share * self.least_saved), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="fewer-launches",
                    params={},
                    safety="numerics",
                    text="Launch less: a larger batch, a compiled model with CUDA graphs, a fused "
                    "optimizer.",
                    code='model = torch.compile(model, mode="reduce-overhead")',
                ),
            ),
            confidence="medium",
        )
