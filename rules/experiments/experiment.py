"""One change of the script against another state of it, pair by pair."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from trainprof.profiler.model.plan import Plan
from trainprof.profiler.model.tuning import Pair
from trainprof.rules.experiments.candidates import SAFETIES, Candidate
from trainprof.rules.experiments.loss_check import LossCheck
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.statistics.pairs import LOOKS, Ratio, paired_ratio


@dataclass(slots=True)
class Experiment:
    """One candidate, or several together, against the original or what is kept so far.

    Attributes:
        candidates: What is tried. base: What both arms run under besides.
        tests: Experiments that may each keep something in error, this one included.
        log_ratios: Of the pairs that count. dropped: Pairs that do not, by the rule on delays.
        measured: All of its pairs in order.
        verdict: "keep", "reject", "inconclusive", "failed", "refused"; None while it goes on.
        reason: Of the verdict, for a reader.
    """

    name: str
    candidates: tuple[Candidate, ...]
    base: tuple[Candidate, ...] = ()
    tests: int = 1
    log_ratios: list[float] = field(default_factory=list)
    measured: list[Pair] = field(default_factory=list)
    unchanged: list[Trial] = field(default_factory=list)
    changed: list[Trial] = field(default_factory=list)
    dropped: int = 0
    looks: int = 0
    verdict: str | None = None
    reason: str = ""
    loss: LossCheck | None = None

    @property
    def plan(self) -> Plan:
        """What the changed trials run under."""
        return plan_with([*self.base, *self.candidates])

    @property
    def ratio(self) -> Ratio | None:
        """Old over new time so far."""
        return paired_ratio(self.log_ratios) if self.log_ratios else None

    @property
    def speedup(self) -> float:
        """The ratio's point; 0 without a pair."""
        return self.ratio.point if self.ratio else 0.0

    @property
    def nearly_proven(self) -> bool:
        """Faster by an interval that does not share its error with other candidates and looks."""
        if len(self.log_ratios) < LOOKS[0]:
            return False
        low = paired_ratio(self.log_ratios).low
        return low is not None and low > 1.0

    @property
    def safety(self) -> str:
        """Of all that is tried together: that of the boldest."""
        return max((one.safety for one in self.candidates), key=SAFETIES.index)

    @property
    def rounding(self) -> bool:
        """Whether all of it leaves random numbers and the order of samples as they are."""
        return all(
            one.safety == "safe" or (one.safety == "numerics" and one.rounding)
            for one in self.candidates
        )

    def settle(self, verdict: str, reason: str) -> None:
        """Ends it."""
        self.verdict, self.reason = verdict, reason


def plan_with(candidates: Sequence[Candidate]) -> Plan:
    """A plan of their applications."""
    return Plan(tuple(candidate.application for candidate in candidates))
