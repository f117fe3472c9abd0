"""`TuneResult`: what a tune found, for every report and for `tune --format json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TUNE_SCHEMA = 1
"""Fields that were added later have a default, so that older files are still read."""


@dataclass(frozen=True, slots=True)
class Pair:
    """Two trials, one straight after the other: without what is tried (old), and with it (new).

    Attributes:
        first: Which of them ran first: old | new.
        old_step_s, new_step_s: Mean step after the warm-up; None where the trial failed.
        ratio: Old over new time, per sample where samples were counted; None where a trial failed.
        left_out: Why it does not count; None where it does.
    """

    first: str
    old_step_s: float | None
    new_step_s: float | None
    ratio: float | None
    left_out: str | None = None


@dataclass(frozen=True, slots=True)
class TriedFix:
    """One fix (or the combination of those kept) that was tried.

    Attributes:
        fix: Its id. params: As applied. rule: Whose advice it was.
        speedup: Old over new time; None if no pair was measured.
        ci: Its interval. pairs, looks: Behind it.
        predicted: The finding's interval, lower and upper end.
        reason: Why it was kept or not, for a reader.
        loss_check: What was found about the losses.
        searched: Settings that were tried to choose these params: "params", "speedup", "pairs".
        measured: Its pairs in order, also those that do not count.
        deciding_low: Lower end of the interval whose error all looks and all that was tried at the
            same time share: above 1 where it is kept. None where no look was reached.
    """

    fix: str
    params: dict[str, Any]
    rule: str
    speedup: float | None = None
    ci: tuple[float, float] | None = None
    pairs: int = 0
    looks: int = 0
    predicted: tuple[float, float] | None = None
    reason: str = ""
    loss_check: dict[str, Any] | None = None
    searched: tuple[dict[str, Any], ...] = ()
    measured: tuple[Pair, ...] = ()
    deciding_low: float | None = None


@dataclass(frozen=True, slots=True)
class RefusedFix:
    """A fix that was not tried, and why."""

    fix: str
    rule: str
    reason: str


@dataclass(frozen=True, slots=True)
class TriedTogether:
    """Several fixes that were kept one by one, together against the original.

    Attributes:
        verdict: keep | reject | inconclusive | failed | refused. reason: Of that, for a reader.
        measured, deciding_low: As of a single fix.
    """

    fixes: tuple[str, ...]
    verdict: str
    speedup: float | None = None
    ci: tuple[float, float] | None = None
    pairs: int = 0
    reason: str = ""
    measured: tuple[Pair, ...] = ()
    deciding_low: float | None = None


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What a tune found.

    Attributes:
        speedup, ci: Of all that is kept, against the original; None when nothing is kept.
        ci_level, pairs, looks: Of that.
        least_ratio: What a fix must reach besides to be kept; None where that was not recorded.
        kept, inconclusive, rejected, failed: What was tried, by its verdict.
        refused: What was not. candidates: With --dry-run, what would be tried.
        combinations: What was tried of those kept, together.
        aa: Of the pairs of unchanged runs: "sd" of the log-ratio, "pairs", and "detectable": the
            smallest ratio that so many pairs show four times in five; "ratio" and "ci" of them.
        aa_pairs: These pairs in order; "old" is the one that ran first.
        dropped_pairs: Left out because a trial had to wait for a CPU, in all.
        preflight: The machine before the trials: "cpu_pressure" (share of time in which something
            waited for a CPU), "waited_s" for it to become quiet, and "remarks".
        loss_check: Of what is kept. patch: A unified diff of what is kept, or None.
        by_hand: Sentences about what of it no patch can change.
        plan: File for `trainprof run --plan`, or None. run: The baseline's run folder.
        ended: complete | budget | interrupted. steps: Of a trial. seconds: Of all.
    """

    run: str
    schema: int = TUNE_SCHEMA
    speedup: float | None = None
    ci: tuple[float, float] | None = None
    ci_level: float = 0.95
    pairs: int = 0
    looks: int = 0
    least_ratio: float | None = None
    kept: tuple[TriedFix, ...] = ()
    inconclusive: tuple[TriedFix, ...] = ()
    rejected: tuple[TriedFix, ...] = ()
    failed: tuple[TriedFix, ...] = ()
    refused: tuple[RefusedFix, ...] = ()
    candidates: tuple[TriedFix, ...] = ()
    combinations: tuple[TriedTogether, ...] = ()
    aa: dict[str, Any] = field(default_factory=dict)
    aa_pairs: tuple[Pair, ...] = ()
    dropped_pairs: int = 0
    preflight: dict[str, Any] = field(default_factory=dict)
    loss_check: dict[str, Any] | None = None
    patch: str | None = None
    by_hand: tuple[str, ...] = ()
    plan: str | None = None
    ended: str = "complete"
    steps: int = 0
    seconds: float = 0.0
