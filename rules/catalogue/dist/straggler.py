"""dist-straggler."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import (
    amdahl,
    has_several_ranks,
    high,
    is_on,
    low,
    needed,
    number,
    observed,
    percent,
    place,
    text,
)
from trainprof.rules.rule import Candidate, Case, Rule

ADVICE = {
    "data_wait": "Give each rank data of the same cost: shuffle, or group samples by length.",
    "forward": "Give each rank the same amount of work: batches of equal numbers of tokens.",
    "gc": "Collect garbage on all ranks at the same steps.",
    "validation": "Validate on all ranks, each on its part.",
    "logging": "Write less output on this rank, or from another thread.",
    "checkpoint": "Save from a snapshot, beside the training.",
}


class Straggler(Rule):
    """One rank comes late to each exchange of gradients, and all others wait for it.

    ## What it finds
    Ranks of one training whose own work takes different times, so that all of them take as long as
    the slowest.

    ## Why it costs time
    Averaging gradients ends when the last rank has brought its own. The steps of all ranks are then
    equally long: on the ranks that wait the backward looks slow, on the one they wait for it looks
    fast, and only the join of all ranks tells them apart.

    ## Evidence needed
    - Two ranks or more with 20 steady steps in common, joined by the number of the step.
    - The time of each rank outside communication (data, forward, backward, optimizer, output ...):
      over all steps that of one rank lies above the mean of all ranks by at least 10 % of the
      step. The band of 10 and 20 % is TraceML's.
    - That rank is the latest in more than 60 % of the steps, else it is a matter of chance (samples
      of different lengths, collections, a busy machine), and a note at most.

    The expected gain follows from a perfect balance: each step then takes the mean of the ranks' own
    times instead of the largest. Below, half of that.

    ## Fix
    By the phase in which the late rank spends its time: data that is spread evenly (shuffling,
    batches of equal length), output, validation and saving that are not left to one rank, another
    machine where the hardware is slower.

    ## Fix safety
    Semantics where samples go to other ranks or come in another order; what only moves output or
    validation changes no result.

    ## When it is wrong
    Where ranks share cores with each other or with other programs, chance decides who is late: with
    other programs at work the finding has low confidence. Work that is meant for one rank (saving)
    at every step shows up here as well.

    ## References
    - PyTorch performance tuning guide, "Load-balance workload in a distributed setting":
      https://docs.pytorch.org/tutorials/recipes/recipes/tuning_guide.html
    - TraceML, diagnosis of stragglers: https://github.com/traceopt-ai/traceml
    """

    id = "dist-straggler"
    title = "One rank is late and all others wait for it"
    needs = ("distributed.straggler_share", "distributed.straggler_steps_share")
    fires_on = (
        Case(
            "one rank has all the long samples",
            {
                "distributed.straggler_share": (0.25, 0.22, 0.28),
                "distributed.imbalance_share": (0.26, 0.23, 0.29),
                "distributed.straggler_steps_share": 0.97,
                "distributed.slowest_rank": 1,
                "distributed.straggler_phase": "data_wait",
                "distributed.straggler_phase_share": 0.95,
                "distributed.world_size": 2,
                "loader.where": {"file": "train.py", "line": 30},
            },
            severity="critical",
            gain=(1.1, 1.35),
        ),
        Case(
            "rank 0 writes all the output",
            {
                "distributed.straggler_share": (0.13, 0.11, 0.15),
                "distributed.straggler_steps_share": 0.8,
                "distributed.slowest_rank": 0,
                "distributed.straggler_phase": "logging",
                "distributed.straggler_phase_share": 0.9,
                "distributed.world_size": 4,
            },
            severity="warn",
        ),
        Case(
            "now this rank, now that one: a note",
            {
                "distributed.straggler_share": (0.01, 0.0, 0.03),
                "distributed.imbalance_share": (0.16, 0.14, 0.18),
                "distributed.straggler_steps_share": 0.52,
                "distributed.world_size": 2,
            },
            severity="info",
        ),
    )
    silent_on = (
        Case(
            "balanced",
            {
                "distributed.straggler_share": (0.01, 0.005, 0.015),
                "distributed.imbalance_share": (0.04, 0.03, 0.05),
                "distributed.straggler_steps_share": 0.55,
            },
        ),
        Case(
            "chance on a busy machine",
            {
                "distributed.straggler_share": (0.03, 0.0, 0.06),
                "distributed.imbalance_share": (0.2, 0.17, 0.23),
                "distributed.straggler_steps_share": 0.55,
                "host.contended": True,
            },
        ),
        Case(
            "saving on rank 0 now and then",
            {
                "distributed.straggler_share": (0.05, 0.0, 0.12),
                "distributed.imbalance_share": (0.07, 0.02, 0.13),
                "distributed.straggler_steps_share": 0.5,
            },
        ),
    )

    min_straggler_share = 0.10
    """Part of the step by which one rank is late (TraceML warns from 10 %)."""
    min_steps_share = 0.6
    """Steps in which the same rank is the latest; more than chance among two (TraceML's is 0.6)."""
    min_imbalance_share = 0.10
    """For a note where the late rank changes."""
    min_covered = 0.8
    """Part of the lateness in one phase, for naming it (TraceML's)."""

    def applies(self, signals: Signals) -> bool:
        """More than one rank trains."""
        return has_several_ranks(signals)

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """A rank that is late as a rule, or else a note on chance."""
        share = needed(signals, "distributed.straggler_share")
        often = needed(signals, "distributed.straggler_steps_share")
        if share >= self.min_straggler_share and often >= self.min_steps_share:
            yield self._late_rank(signals, share, often)
            return
        imbalance = number(signals, "distributed.imbalance_share") or 0.0
        surely = low(signals, "distributed.imbalance_share") or 0.0
        if min(imbalance, surely) < self.min_imbalance_share or is_on(signals, "host.contended"):
            return
        yield Candidate(
            summary=f"In each step some rank is late by {percent(imbalance)} of it, "
            "now this one, now that.",
            evidence=(
                *observed(signals, "distributed.imbalance_share", self.min_imbalance_share),
                *observed(signals, "distributed.straggler_steps_share"),
                *observed(signals, "distributed.world_size"),
            ),
            share=imbalance,
            share_low=surely,
            gain=Gain(1.0, amdahl(imbalance)),
            fixes=(self._advice("forward"),),
            confidence="low",
            max_severity="info",
        )

    def _late_rank(self, signals: Signals, share: float, often: float) -> Candidate:
        rank = number(signals, "distributed.slowest_rank")
        phase = text(signals, "distributed.straggler_phase")
        covered = number(signals, "distributed.straggler_phase_share") or 0.0
        if covered < self.min_covered:
            phase = None
        who = "One rank" if rank is None else f"Rank {rank:.0f}"
        why = f", most of it in {phase.replace('_', ' ')}" if phase else ""
        share_low = low(signals, "distributed.straggler_share") or 0.0
        share_high = high(signals, "distributed.straggler_share") or share
        return Candidate(
            summary=f"{who} is late in {percent(often)} of the steps, "
            f"by {percent(share)} of a step in the mean{why}; the others wait.",
            evidence=(
                *observed(signals, "distributed.straggler_share", self.min_straggler_share),
                *observed(signals, "distributed.straggler_steps_share", self.min_steps_share),
                *observed(signals, "distributed.slowest_rank"),
                *observed(signals, "distributed.straggler_phase"),
                *observed(signals, "distributed.straggler_phase_share", self.min_covered),
                *observed(signals, "distributed.world_size"),
            ),
            share=share,
            share_low=share_low,
            gain=Gain(amdahl(share_low / 2), amdahl(share_high)),
            where=place(signals, "loader.where") if phase == "data_wait" else None,
            fixes=(self._advice(phase),),
            confidence="high" if phase else "medium",
        )

    @staticmethod
    def _advice(phase: str | None) -> FixAdvice:
        same = "Give each rank the same amount of work."
        return FixAdvice(
            fix="balance-ranks",
            params={"phase": phase} if phase else {},
            safety="semantics",
            text=ADVICE.get(phase or "", same),
        )
