"""Every rule's own cases, its page, and the promises that all rules make."""

from __future__ import annotations

import math
from pathlib import Path

import pytest

from trainprof.profiler.model.signals import Signal, Signals
from trainprof.rules.catalogue import catalogue
from trainprof.rules.rule import SECTIONS, Candidate, Case, Rule

RULES = catalogue()
SEVERITIES = ("info", "warn", "critical")
FIRST_WORDS_OF_ADVICE = {
    *("add", "avoid", "call", "disable", "drop", "enable", "increase", "make", "move", "pass"),
    *("put", "raise", "reduce", "remove", "replace", "set", "switch", "turn", "use"),
}
STORIES = sorted(p.name for p in Path("sample_runs").iterdir() if p.is_dir())


def signals_of(case: Case) -> Signals:
    values = {}
    for name, value in case.signals.items():
        if isinstance(value, tuple):
            middle, low, high = value
            values[name] = Signal(middle, low=low, high=high)
        else:
            values[name] = Signal(value)
    return Signals(values)


def cases(kind: str) -> list[object]:
    return [
        pytest.param(rule, case, id=f"{rule.id}: {case.title}")
        for rule in RULES
        for case in getattr(rule, kind)
    ]


def grade(candidate: Candidate) -> str | None:
    """What the engine's gates make of a candidate: 3, 10 and 20 % of the step, gain of 1.03."""
    if candidate.gain is not None and candidate.gain.high < 1.03:
        return None
    if candidate.severity is not None:
        return candidate.severity
    certain = candidate.share if candidate.share_low is None else candidate.share_low
    assert certain is not None
    granted = [
        s for s, least in zip(SEVERITIES, (0.03, 0.10, 0.20), strict=True) if certain > least
    ]
    allowed = SEVERITIES[: SEVERITIES.index(candidate.max_severity) + 1]
    return next((s for s in reversed(allowed) if s in granted), None)


@pytest.mark.parametrize(("rule", "case"), cases("fires_on"))
def test_fires(rule: type[Rule], case: Case) -> None:
    signals = signals_of(case)
    missing = [name for name in rule.needs if signals.get(name).value is None]
    assert not missing

    candidates = list(rule().check(signals))

    assert len(candidates) == 1
    (candidate,) = candidates
    assert candidate.evidence
    assert candidate.summary.endswith((".", "?"))
    severity = grade(candidate)
    assert severity is not None
    if case.severity is not None:
        assert severity == case.severity
    if case.gain is not None:
        assert candidate.gain is not None
        middle = math.sqrt(candidate.gain.low * candidate.gain.high)
        assert case.gain[0] <= middle <= case.gain[1]


@pytest.mark.parametrize(("rule", "case"), cases("silent_on"))
def test_silent(rule: type[Rule], case: Case) -> None:
    signals = signals_of(case)
    missing = [name for name in rule.needs if signals.get(name).value is None]
    assert not missing

    assert [grade(c) for c in rule().check(signals) if grade(c)] == []


@pytest.mark.parametrize("rule", RULES, ids=lambda rule: rule.id)
def test_has_cases_of_both_kinds(rule: type[Rule]) -> None:
    assert rule.fires_on
    assert rule.silent_on
