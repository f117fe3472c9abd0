"""loop-long-step."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, duration, needed, number, observed, text
from trainprof.rules.rule import Candidate, Case, Rule


class LongStep(Rule):
    """A few steps take far longer than the others.

    ## What it finds
    In a trace: steps whose length exceeds the median by more than chance does, and what took longer
    in the longest of them.

    ## Why it costs time
    The mean pays for every step. With several ranks each of them waits for whoever has the long
    step, so long steps of different ranks add up.

    ## Evidence needed
    - At least four whole steps in the trace.
    - A step longer than the median by five standard deviations, taken from the median absolute
      deviation, and by a fifth of the median.
    - Together they exceed the median by at least 3 % of the window.

    What is named is the shortest of the host's events that grew by at least half of the excess:
    whatever is around it grew as well. The expected gain is Amdahl's bound on the excess, nothing
    at the lower end: a trace of a few steps does not tell how often such a step comes.

    ## Fix
    Look at what grew. A collective that grew means that another rank was late; a copy or an
    allocation, that memory was short or touched for the first time; a batch, that it is larger or
    that a loader fell behind; anything that runs every so many steps (logging, saving, validation,
    garbage collection) shows here too.

    ## Fix safety
    Nothing is changed.

    ## When it is wrong
    The first traced step carries the start of the profiler. Batches of different sizes make steps
    of different lengths without any fault.

    ## References
    - Leys et al. 2013, median absolute deviation:
      https://doi.org/10.1016/j.jesp.2013.03.013
    """

    id = "loop-long-step"
    title = "A few steps take far longer than the others"
    can_warn = False
    needs = ("step_variation.excess_share", "step_variation.longest")
    fires_on = (
        Case(
            "one of five steps is twice as long, in a collective",
            {
                "step_variation.median_s": 0.219,
                "step_variation.outliers": 1,
                "step_variation.excess_share": 0.16,
                "step_variation.longest": "ProfilerStep#553",
                "step_variation.longest_s": 0.425,
                "step_variation.grown": "gloo:all_reduce",
                "step_variation.grown_s": 0.205,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "one of a hundred steps is twice as long",
            {
                "step_variation.median_s": 0.2,
                "step_variation.outliers": 1,
                "step_variation.excess_share": 0.01,
                "step_variation.longest": "ProfilerStep#40",
                "step_variation.longest_s": 0.4,
            },
        ),
    )

    min_share = 0.03
    """Of the window (the threshold of any finding)."""

    def applies(self, signals: Signals) -> bool:
        """A trace has such a step."""
        return bool(number(signals, "step_variation.outliers"))

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Words what grew."""
        share = needed(signals, "step_variation.excess_share")
        if share < self.min_share:
            return
        grown = text(signals, "step_variation.grown")
        part = text(signals, "step_variation.part")
        more = (
            f": {grown} took {duration(number(signals, 'step_variation.grown_s') or 0.0)} more"
            if grown
            else ""
        )
        device = (
            f", and the device was {part} {duration(needed(signals, 'step_variation.part_s'))} more"
            if part and part.startswith("idle") and number(signals, "step_variation.part_s")
            else ""
        )
        longest = duration(number(signals, "step_variation.longest_s") or 0.0)
        median = duration(number(signals, "step_variation.median_s") or 0.0)
        yield Candidate(
            summary=(
                f"{text(signals, 'step_variation.longest')} took {longest} against {median} of the "
                f"median step{more}{device}."
            ),
            evidence=(
                *observed(signals, "step_variation.excess_share", self.min_share),
                *observed(signals, "step_variation.outliers"),
                *observed(signals, "step_variation.grown"),
                *observed(signals, "step_variation.grown_s"),
                *observed(signals, "step_variation.part"),
                *observed(signals, "step_variation.deviation_share"),
            ),
            share=share,
            gain=Gain(1.0, amdahl(share)),
            confidence="low",
            max_severity="info",
        )
