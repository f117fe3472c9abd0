"""Leaves out the findings whose source line says `# trainprof: ignore[rule-id]`."""

from __future__ import annotations

import re
from dataclasses import replace

from trainprof.profiler.model.diagnosis import Diagnosis, Finding, RunSummary
from trainprof.reports.source import source_line
from trainprof.rules.engine import LEAST_STEADY_STEPS, SEVERITIES

_COMMENT = re.compile(r"#\s*trainprof:\s*ignore\[([^\]]*)\]")


def drop_ignored(diagnosis: Diagnosis) -> Diagnosis:
    """The diagnosis, of every training, without the findings that its source asks to leave out.

    They are kept under `ignored`, so that a report can say how many there were. A run is judged
    again by the findings that are left.
    """
    ignored = [finding for finding in diagnosis.findings if is_ignored(finding, diagnosis.run)]
    others = tuple(drop_ignored(other) for other in diagnosis.other_sessions)
    if not ignored:
        return replace(diagnosis, other_sessions=others)
    kept = tuple(finding for finding in diagnosis.findings if finding not in ignored)
    changed = replace(diagnosis, findings=kept, ignored=tuple(ignored), other_sessions=others)
    return _judged_again(changed)


def is_ignored(finding: Finding, run: RunSummary) -> bool:
    """Whether the source line that the finding names asks to leave this rule out."""
    line = None if finding.where is None else source_line(finding.where, run)
    comment = None if line is None else _COMMENT.search(line)
    if comment is None:
        return False
    return finding.rule in {rule.strip() for rule in comment.group(1).split(",")}


def _judged_again(diagnosis: Diagnosis) -> Diagnosis:
    """Verdict and headline for the findings that are left."""
    if diagnosis.verdict != "bottleneck":
        return diagnosis
    grave = [finding for finding in diagnosis.findings if finding.severity != "info"]
    if grave:
        gravest = max(grave, key=lambda finding: SEVERITIES.index(finding.severity))
        return replace(diagnosis, headline=gravest.summary)
    steady = diagnosis.steps.steady
    if steady < LEAST_STEADY_STEPS:
        return replace(
            diagnosis,
            verdict="insufficient",
            headline=f"Not enough evidence, because only {steady} steady steps were recorded; "
            f"{LEAST_STEADY_STEPS} are needed.",
        )
    return replace(
        diagnosis,
        verdict="healthy",
        headline="Healthy but for what comments in the source ask to ignore.",
    )
