"""Symptoms go under their cause: a finding that another one explains is not listed by itself."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

from trainprof.profiler.model.diagnosis import Finding

LEAST_EXPLAINED = 0.50
"""Part of the symptom's share that the cause's own has to reach: more than half. What is left shows
when the cause is mended, and the next bottleneck tells of it; else both are told."""

_RANK = {"info": 0, "warn": 1, "critical": 2}


@dataclass(frozen=True, slots=True)
class Judged:
    """A finding, and the rules whose findings its rule explains."""

    finding: Finding
    explains: tuple[str, ...]


def under_their_causes(judged: Sequence[Judged]) -> list[Finding]:
    """The findings that stand by themselves; each names in `suppresses` what it explains.

    A symptom of a symptom goes under the root. Of two findings that explain each other the one
    with the larger share stands.
    """
    order = sorted(range(len(judged)), key=lambda place: -_explained_share(judged[place].finding))
    cause_of: dict[int, int] = {}
    for place in reversed(order):  # small ones first: of a pair the larger stands
        for other in order:
            if other == place or place in cause_of or not _explains(judged[other], judged[place]):
                continue
            if _root(other, cause_of) != place:
                cause_of[place] = other
    findings = []
    for place, one in enumerate(judged):
        if place in cause_of:
            continue
        hidden = sorted(
            {judged[other].finding.rule for other in cause_of if _root(other, cause_of) == place}
        )
        findings.append(replace(one.finding, suppresses=tuple(hidden)))
    return findings


def _root(place: int, cause_of: dict[int, int]) -> int:
    while place in cause_of:
        place = cause_of[place]
    return place


def _explains(cause: Judged, symptom: Judged) -> bool:
    if symptom.finding.rule not in cause.explains:
        return False
    if _RANK[cause.finding.severity] < _RANK[symptom.finding.severity]:
        return False  # a note never silences a warning
    wanted = LEAST_EXPLAINED * _explained_share(symptom.finding)
    return _explained_share(cause.finding) >= wanted


def _explained_share(finding: Finding) -> float:
    """Share of the step behind a finding; by its predicted gain where no share was measured."""
    if finding.share is not None:
        return finding.share
    if finding.gain is not None:
        return 1.0 - 1.0 / finding.gain.middle
    return 0.0
