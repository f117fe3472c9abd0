"""`Comparison`: two groups of runs side by side, and the shape of `compare --format json`."""

from __future__ import annotations

from dataclasses import dataclass

SCHEMA = 1
EITHER_SIDE = "the true difference may lie on either side of it"
"""Reason of a gate that better runs, or more of them, would decide."""


@dataclass(frozen=True, slots=True)
class ComparedRun:
    """One run of a group.

    Attributes:
        status: complete | incomplete | crashed | stopped | running.
        problem: Why its steps do not count; None where they do.
        mean_s, mean_s_low, mean_s_high: Of a steady step, as its diagnosis has them (90 %).
        samples_per_step: Of one rank; None where samples were not counted.
    """

    name: str
    path: str
    status: str
    started_unix_s: float | None
    steps: int
    steady: int
    mean_s: float | None
    mean_s_low: float | None
    mean_s_high: float | None
    samples_per_step: float | None
    problem: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """Time of the candidate over that of the base, with its interval; above 1 is slower.

    Attributes:
        run_deviation: Standard deviation of the logarithm of equal runs' times.
        assumed: It is a stated floor, since there are too few runs to measure it.
        pairs: Of runs made in turns; None where the groups are compared as they are.
        steps_matter: What the steps of a run leave open is more than what differs between runs.
    """

    point: float
    low: float
    high: float
    run_deviation: float
    assumed: bool
    steps_matter: bool = False
    pairs: int | None = None


@dataclass(frozen=True, slots=True)
class PhaseChange:
    """One phase of the mean steady step in both groups, with the interval of the difference."""

    phase: str
    base_s: float
    candidate_s: float
    difference_s: float
    low_s: float
    high_s: float


@dataclass(frozen=True, slots=True)
class FactChange:
    """Something that is not the same in both groups; several values where the runs of one differ.

    Attributes:
        subject: Of which object: "command", "loader l0", "environment" ...
    """

    subject: str
    name: str
    base: tuple[str, ...]
    candidate: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Gate:
    """What `--fail-if-slower` asks.

    Attributes:
        limit: Tolerated part of the base's time.
        outcome: passed | failed | undecided. Only "failed" gives exit status 1.
        reason: Why it is undecided.
        runs_needed: So many of each tell a difference of `limit` from none; None where 50 do not.
    """

    limit: float
    outcome: str
    reason: str | None = None
    runs_needed: int | None = None


@dataclass(frozen=True, slots=True)
class Comparison:
    """Everything that a report of a comparison may show.

    Attributes:
        verdict: faster | slower | no_difference | undecided.
        reason: Why it is undecided.
        per: "step", or "sample" where the batches are not of one size; phases too are per that.
        ratio: None where it is undecided.
        level: Of every interval, two-sided; only those of `ComparedRun` have their own.
        phases: Those that were measured in all runs that count.
        findings_gone, findings_new: Rules that speak of every run of one group only.
        remarks: What a reader has to know of the runs, one sentence each.
    """

    schema: int
    verdict: str
    reason: str | None
    per: str
    base: tuple[ComparedRun, ...]
    candidate: tuple[ComparedRun, ...]
    ratio: Ratio | None
    level: float
    phases: tuple[PhaseChange, ...]
    changes: tuple[FactChange, ...]
    findings_gone: tuple[str, ...]
    findings_new: tuple[str, ...]
    remarks: tuple[str, ...]
    gate: Gate | None
