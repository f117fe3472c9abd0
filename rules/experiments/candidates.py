"""Which fixes are worth a trial: those that findings advise and that can be applied here."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from trainprof.profiler.model.diagnosis import Diagnosis, Finding, FixAdvice, Gain
from trainprof.profiler.model.plan import Application, Target
from trainprof.rules.fixes.fix import Fix
from trainprof.rules.fixes.registry import all_fixes

SAFETIES = ("safe", "numerics", "semantics")
DRAWS = "dataset.draws_random_numbers"


@dataclass(frozen=True, slots=True)
class Searched:
    """One setting of knobs that was tried before the planned pairs.

    Attributes:
        speedup: Old over new time in `pairs` short pairs; None where it failed.
    """

    params: Mapping[str, int]
    speedup: float | None
    pairs: int


@dataclass(frozen=True, slots=True)
class Candidate:
    """One fix of one finding.

    Attributes:
        application: What a plan would say. rule: Whose advice it is.
        safety: Of this application. rounding: Whether it leaves random numbers as they are.
        predicted: The finding's interval, if it has one.
        pays_off_later: Its start has to be earned back.
        from_second_epoch: The first epoch only prepares what later ones gain from.
        searched: Settings that were tried to choose that of the application.
    """

    application: Application
    rule: str
    safety: str
    rounding: bool
    predicted: Gain | None
    verifies: tuple[str, str] | None
    pays_off_later: bool = False
    from_second_epoch: bool = False
    searched: tuple[Searched, ...] = ()


@dataclass(frozen=True, slots=True)
class Refused:
    """A fix that is not tried, and why."""

    fix: str
    rule: str
    reason: str


def candidates_of(
    diagnosis: Diagnosis, allowed: str = "numerics"
) -> tuple[list[Candidate], list[Refused]]:
    """What to try, the largest predicted gain first, and what is not tried.

    Args:
        diagnosis: Of the unchanged run.
        allowed: The most that a fix may change: "safe", "numerics" or "semantics".
    """
    known = all_fixes()
    chosen: dict[tuple[str, str], Candidate] = {}
    refused: list[Refused] = []
    for finding in diagnosis.findings:
        for advice in finding.fixes:
            kind = known.get(advice.fix)
            if kind is None:
                refused.append(Refused(advice.fix, finding.rule, "it needs a person's hand"))
                continue
            safety = _safety(advice, kind, measured(diagnosis, DRAWS))
            if SAFETIES.index(safety) > SAFETIES.index(allowed):
                reason = f"it changes {safety}; ask for it with --allow {safety}"
                refused.append(Refused(advice.fix, finding.rule, reason))
                continue
            candidate = _candidate(finding, advice, kind, safety)
            key = (advice.fix, repr((sorted(advice.params.items()), advice.where)))
            chosen.setdefault(key, candidate)
    return sorted(chosen.values(), key=_promise, reverse=True), refused


def measured(diagnosis: Diagnosis, signal: str) -> object:
    """The value of a signal behind the diagnosis; None where it was not measured."""
    signals = diagnosis.facts.get("signals")
    found = signals.get(signal) if isinstance(signals, dict) else None
    return found.get("value") if isinstance(found, dict) else None


def _safety(advice: FixAdvice, kind: type[Fix], draws: object) -> str:
    """Of this application: other random streams change nothing where the data draws no numbers."""
    spared = kind.safe_without_draws and draws is False
    return "safe" if spared and advice.safety == "numerics" else advice.safety


def _candidate(finding: Finding, advice: FixAdvice, kind: type[Fix], safety: str) -> Candidate:
    where = advice.where or finding.where
    of_object = kind.made_in_source and where is not None
    target = Target(where.file, where.line) if of_object and where is not None else None
    params = {name: advice.params[name] for name in kind.parameters if name in advice.params}
    return Candidate(
        Application(advice.fix, params, target),
        finding.rule,
        safety,
        kind.rounding,
        finding.gain,
        kind.verifies,
        kind.pays_off_later,
        kind.from_second_epoch,
    )


def _promise(candidate: Candidate) -> float:
    return candidate.predicted.middle if candidate.predicted is not None else 1.0


def without_overlap(candidates: Sequence[Candidate]) -> list[Candidate]:
    """At most one candidate of each fix: two settings of one loader exclude each other."""
    seen: set[tuple[str, Target | None]] = set()
    kept = []
    for candidate in candidates:
        key = (candidate.application.fix, candidate.application.target)
        if key not in seen:
            seen.add(key)
            kept.append(candidate)
    return kept
