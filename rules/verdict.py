"""The verdict in one word and in one sentence."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from trainprof.profiler.model.diagnosis import Finding
from trainprof.rules.engine import LEAST_STEADY_STEPS, SEVERITIES, Evaluation


@dataclass(frozen=True, slots=True)
class Verdict:
    """bottleneck | healthy | insufficient, and the sentence a report begins with."""

    word: str
    headline: str


def pronounce(evaluation: Evaluation, steps: int, steady: int) -> Verdict:
    """The verdict on a training with steps.

    A finding at warn or above is a bottleneck, whatever else could not be seen. Without one,
    silence counts as health only if the rules able to warn could speak.

    Args:
        evaluation: What the rules said.
        steps: Steps recorded.
        steady: Those after the warm-up.
    """
    grave = [finding for finding in evaluation.findings if finding.severity != "info"]
    if grave:
        return Verdict("bottleneck", gravest(grave).summary)
    if steady < LEAST_STEADY_STEPS:
        return insufficient(_too_few(steps, steady))
    if evaluation.gated:
        lost = evaluation.gated[0]
        return insufficient(f"{lost.rule} could not be judged: {lost.reason}")
    return Verdict("healthy", _health(len(evaluation.findings)))


def insufficient(reason: str) -> Verdict:
    """The verdict where nothing can be said, and why."""
    return Verdict("insufficient", f"Not enough evidence, because {reason.rstrip('.')}.")


def gravest(findings: Sequence[Finding]) -> Finding:
    """The one whose summary is the headline: what loses the run, else the gravest by its gain."""
    return max(
        findings,
        key=lambda finding: (
            finding.severity == "critical" and finding.gain is None,  # the run is lost
            SEVERITIES.index(finding.severity),
            finding.recoverable_s_per_step or 0.0,
        ),
    )


def _too_few(steps: int, steady: int) -> str:
    if steady == 0:
        recorded = "one step was" if steps == 1 else f"{steps:,} steps were"
        return (
            f"only {recorded} recorded, which is warm-up; {LEAST_STEADY_STEPS} after it are needed"
        )
    steady_ones = "one steady step was" if steady == 1 else f"{steady} steady steps were"
    return f"only {steady_ones} recorded; {LEAST_STEADY_STEPS} are needed"


def _health(notes: int) -> str:
    if notes == 0:
        return "Healthy: nothing worth changing."
    small = "one small finding is a note" if notes == 1 else f"{notes} small findings are notes"
    return f"Healthy: nothing costs a tenth of the step; {small}."
