"""dist-late-rank."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import FixAdvice, Gain
from trainprof.profiler.model.signals import Signals
from trainprof.rules.reading import amdahl, duration, needed, number, observed, percent, plural
from trainprof.rules.rule import Candidate, Case, Rule


class LateRank(Rule):
    """One rank comes late to the collectives, and all others wait for it.

    ## What it finds
    In the traces of several ranks: the rank whose collectives are the shortest, because it comes
    last, while those of the others stretch until it has come.

    ## Why it costs time
    A collective ends when the last rank has joined it. Whatever a rank computes faster than the
    slowest one it spends waiting, inside a kernel that looks like communication.

    ## Evidence needed
    - Traces of two ranks or more, of the same steps, with collectives in common.
    - In at least 5 % of the window the others wait, on the average, in collectives to which the
      same rank comes last.

    The wait of a rank is the length of its kernel less that of the shortest: no clock has to agree.
    The expected gain: at the lower end the late rank comes with the last but one, at the upper end
    the others wait no more.

    ## Fix
    Look at the late rank, not at the one with the longest step: its data (longer sequences, more
    rows), its machine (a throttled or shared device, other programs), what it does alone (logging,
    saving, validation).

    ## Fix safety
    Semantics, as far as a rank gets other data; nothing is changed where its machine is mended.

    ## When it is wrong
    A rank may be late in one step by chance; record several steps. Ranks that take turns at being
    late point to uneven batches rather than to a machine.

    ## References
    - NCCL collectives: https://docs.nvidia.com/deeplearning/nccl/user-guide/docs/usage/collectives.html
    """

    id = "dist-late-rank"
    title = "One rank is late"
    needs = ("arrivals.late_rank", "arrivals.caused_share", "arrivals.saved_share")
    what_if = "balanced-ranks"
    fires_on = (
        Case(
            "one of eight ranks is late at half of the collectives",
            {
                "arrivals.ranks": 8,
                "arrivals.collectives": 8,
                "arrivals.late_rank": 7,
                "arrivals.late_count": 4,
                "arrivals.caused_s": 0.0096,
                "arrivals.caused_share": 0.3,
                "arrivals.saved_share": 0.07,
                "arrivals.longest_rank": 1,
            },
            severity="critical",
        ),
    )
    silent_on = (
        Case(
            "waits of 2 %",
            {
                "arrivals.ranks": 8,
                "arrivals.late_rank": 3,
                "arrivals.caused_share": 0.02,
                "arrivals.saved_share": 0.01,
            },
        ),
    )

    min_share = 0.05
    """Of the window (a starting value)."""

    def applies(self, signals: Signals) -> bool:
        """There are traces of several ranks."""
        return signals.get("arrivals.ranks").value is not None

    def check(self, signals: Signals) -> Iterator[Candidate]:
        """Looks at what others wait for the rank that is late most."""
        share = needed(signals, "arrivals.caused_share")
        if share < self.min_share:
            return
        rank = int(needed(signals, "arrivals.late_rank"))
        saved = min(needed(signals, "arrivals.saved_share"), share)
        caused = number(signals, "arrivals.caused_s") or 0.0
        count = int(number(signals, "arrivals.late_count") or 0)
        longest = number(signals, "arrivals.longest_rank")
        victim = (
            f"; rank {longest:.0f}, with the longest step, only waits"
            if longest is not None and longest != rank
            else ""
        )
        yield Candidate(
            summary=(
                f"Rank {rank} comes last to {plural(count, 'collective')}: the first to come waits "
                f"{duration(caused)} for it, all others {percent(share)} of the window on the "
                f"average{victim}."
            ),
            evidence=(
                *observed(signals, "arrivals.caused_share", self.min_share),
                *observed(signals, "arrivals.caused_s"),
                *observed(signals, "arrivals.late_count"),
                *observed(signals, "arrivals.collectives"),
                *observed(signals, "arrivals.ranks"),
            ),
            share=share,
            share_low=share,
            gain=Gain(amdahl(saved), amdahl(share)),
            fixes=(
                FixAdvice(
                    fix="even-ranks",
                    params={},
                    safety="semantics",
                    text=f"Look at what rank {rank} does that others do not: its share of the data, "
                    "its device, its saving and logging.",
                ),
            ),
            confidence="medium",
        )
