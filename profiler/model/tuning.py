"""`TuneResult`: what a tune found, for every report and for `tune --format json`."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

TUNE_SCHEMA = 1


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
    """

    fixes: tuple[str, ...]
    verdict: str
    speedup: float | None = None
    ci: tuple[float, float] | None = None
    pairs: int = 0
    reason: str = ""


@dataclass(frozen=True, slots=True)
class TuneResult:
    """What a tune found.

    Attributes:
        speedup, ci: Of all that is kept, against the original; None when nothing is kept.
        ci_level, pairs, looks: Of that.
        kept, inconclusive, rejected, failed: What was tried, by its verdict.
        refused: What was not. candidates: With --dry-run, what would be tried.
        combinations: What was tried of those kept, together.
        aa: Of the pairs of unchanged runs: "sd" of the log-ratio, "pairs", and "detectable": the
            smallest ratio that so many pairs show four times in five.
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
    kept: tuple[TriedFix, ...] = ()
    inconclusive: tuple[TriedFix, ...] = ()
    rejected: tuple[TriedFix, ...] = ()
    failed: tuple[TriedFix, ...] = ()
    refused: tuple[RefusedFix, ...] = ()
    candidates: tuple[TriedFix, ...] = ()
    combinations: tuple[TriedTogether, ...] = ()
    aa: dict[str, Any] = field(default_factory=dict)
    dropped_pairs: int = 0
    preflight: dict[str, Any] = field(default_factory=dict)
    loss_check: dict[str, Any] | None = None
    patch: str | None = None
    by_hand: tuple[str, ...] = ()
    plan: str | None = None
    ended: str = "complete"
    steps: int = 0
    seconds: float = 0.0
