"""loop-gc."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    duration,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    rate,
)
from trainprof.rules.rule import Candidate, Case, Rule


class Gc(Rule):
    """Python's garbage collector interrupts the training, by itself or because it is told to.

    ## What it finds
    `gc.collect()` called in (nearly) every step, or automatic collections of the oldest generation
    that stop the training thread for long.

    ## Why it costs time
    A full collection visits every container object of the process, whether or not there is garbage:
    about a tenth of a microsecond for each, so 0.1 s for a million objects (an index of the data
    set held in dicts is enough). Training makes hardly any cyclic garbage, so nearly all of that
    work finds nothing. Under data parallelism the ranks collect at different steps and each pause
    stops all of them.

    ## Evidence needed
    - At least 3 % of the steady step's wall time inside collections.
    - Either `gc.collect()` at least once in ten steps, or automatic collections.

    The interval: Amdahl's bound above; below, a tenth of a manual collection's time may stay (one
    call where it is due) and half of the automatic ones (young generations go on being collected).
    Measured: a manual collection per step beside 300,000 live dicts made a 0.3 ms step 350 times
    slower; a collection of a million dicts fell from 108 ms to 0.002 ms after `gc.freeze()`.

    ## Fix
    Manual: remove `gc.collect()` from the loop. Automatic: after set-up and the first steps call
    `gc.collect(); gc.freeze()`; where pauses still matter `gc.disable()` and `gc.collect(1)` every
    50th step, as torchtitan does.

    ## Fix safety
    Safe: no result changes. Watch the memory for an epoch, since garbage in cycles that hold
    tensors lives longer.

    ## When it is wrong
    A loop that builds cycles around tensors (exceptions kept with their frames, some hooks) needs
    its collections: disabling them makes memory creep, as one project found. Where memory grows
    already, trainprof does not advise to disable. Where `gc.freeze()` was called it does not advise
    it again.

    ## References
    - The gc module: https://docs.python.org/3/library/gc.html
    - torchtitan, collection under the program's control:
      https://github.com/pytorch/torchtitan/pull/148
    - nanochat, steps twice as long whenever the oldest generation is collected:
      https://github.com/karpathy/nanochat/pull/477
    - dinov3, memory creep with collection off:
      https://github.com/facebookresearch/dinov3/issues/150
    """

    id = "loop-gc"
    title = "Garbage collection interrupts the training"
    needs = ("gc.share",)
    fires_on = (
        Case(
            "gc.collect() in each step beside a large index",
            {
                "gc.share": (0.9, 0.88, 0.92),
                "gc.manual_per_step": 1.0,
                "gc.longest_s": 0.05,
                "gc.where": {"file": "train.py", "line": 48},
                "flags.gc_enabled": True,
            },
            severity="critical",
            gain=(4.0, 12.0),
        ),
        Case(
            "automatic collections of the oldest generation",
            {
                "gc.share": (0.13, 0.11, 0.15),
                "gc.manual_per_step": 0.0,
                "gc.pauses": 40,
                "gc.generation2_mean_s": 0.6,
                "step.mean_s": 0.68,
                "flags.gc_enabled": True,
                "flags.gc_frozen": 0,
            },
            severity="warn",
            gain=(1.05, 1.16),
        ),
    )
    silent_on = (
        Case(
            "collections that nobody notices",
            {"gc.share": (0.004, 0.003, 0.005), "gc.manual_per_step": 0.0},
        ),
    )

    min_gc_share = 0.03
    """Share of the step; the same as the engine's gate for a note."""
    min_manual_per_step = 0.1
    """Calls of gc.collect(); from one in ten steps they are a habit of the loop."""
    remaining_manual, remaining_automatic = 0.1, 0.5
    """Part of the time that may stay after the fix, for the lower end of the gain."""
    min_growth_bytes_per_step = 1_024.0
    """From here on memory counts as growing, and disabling collection is not advised."""
    collect_every_steps = 50
    """torchtitan's interval for collecting the young generations."""

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Tells the two causes apart: somebody's call, or the collector's own pace."""
        share = needed(signals, "gc.share")
        if share < self.min_gc_share:
            return
        manual = number(signals, "gc.manual_per_step") or 0.0
        by_hand = manual >= self.min_manual_per_step
        share_low = low(signals, "gc.share") or 0.0
        stays = self.remaining_manual if by_hand else self.remaining_automatic
        yield Candidate(
            summary=self._summary(signals, share, manual if by_hand else None),
            evidence=(
                *observed(signals, "gc.share", self.min_gc_share),
                *observed(signals, "gc.manual_per_step", self.min_manual_per_step),
                *observed(signals, "gc.pauses"),
                *observed(signals, "gc.longest_s"),
                *observed(signals, "gc.generation2_mean_s"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(share_low * (1 - stays)), amdahl(share)),
            where=place(signals, "gc.where") if by_hand else None,
            fixes=(self._remove(),) if by_hand else self._automatic(signals),
            confidence="high",
        )

    @staticmethod
    def _summary(signals: Signals, share: float, manual: float | None) -> str:
        if manual is not None:
            often = rate(manual)
            return f"gc.collect(): {often}; collections take {percent(share)} of the step."
        pause_s = number(signals, "gc.generation2_mean_s")
        long = "" if pause_s is None else f", {duration(pause_s)} for each full one"
        return f"Automatic collections take {percent(share)} of the step{long}."

    @staticmethod
    def _remove() -> FixAdvice:
        return FixAdvice(
            fix="gc-manual-off",
            params={},
            safety="safe",
            text="Remove gc.collect() from the loop; training makes hardly any cyclic garbage.",
        )

    def _automatic(self, signals: Signals) -> tuple[FixAdvice, ...]:
        advice = []
        if not number(signals, "flags.gc_frozen"):
            advice.append(
                FixAdvice(
                    fix="gc-freeze",
                    params={"freeze": True},
                    safety="safe",
                    text="After the first steps move what lives for ever out of the collector's "
                    "sight.",
                    code="gc.collect(); gc.freeze()",
                )
            )
        growth = low(signals, "memory.rss_slope_bytes_per_step")
        if growth is None or growth < self.min_growth_bytes_per_step:
            every = self.collect_every_steps
            advice.append(
                FixAdvice(
                    fix="gc-paced",
                    params={"collect_every_steps": every, "generation": 1},
                    safety="safe",
                    text=f"Switch automatic collection off and collect the young generations "
                    f"every {every}th step; watch the memory for an epoch.",
                    code=f"gc.disable()  # and in the loop: if step % {every} == 0: gc.collect(1)",
                )
            )
        return tuple(advice)
