"""What a few steps may claim: a trace of one to three is no sample of twenty steady ones.

No spread can be estimated from so few, so a worst case is held against the finding: that all of the
longest step was the fault's. Where the fault still takes, on the average, more than a grade's
threshold of the other steps, the finding has the grade; else it is a note. One step alone proves
no more than a note; of three equal ones a fault has to take 40 % to warn, 47 % to be critical.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

from trainprof.profiler.model.diagnosis import Finding
from trainprof.profiler.model.run import ProcessRecord
from trainprof.rules.engine import LEAST_SHARE, LEAST_STEADY_STEPS, SEVERITIES


def longest_share(trainer: ProcessRecord, first: int, steps: int) -> float:
    """The longest of a window's steps, as a part of the window.

    The steps count as equally long where they were not all recorded.

    Args:
        trainer: Whose steps.
        first: Number of the first step.
        steps: How many.
    """
    columns = trainer.steps.columns
    lengths = [
        wall_ns
        for index, wall_ns in zip(columns["index"], columns["wall_ns"], strict=True)
        if first <= index < first + steps
    ]
    if len(lengths) != steps or sum(lengths) <= 0:
        return 1.0 / max(steps, 1)
    return max(lengths) / sum(lengths)


def graded(finding: Finding, steps: int, longest: float) -> Finding:
    """The finding with the grade that so many steps carry; findings without a share stay.

    Args:
        finding: Of a trace of these steps.
        steps: How many there are.
        longest: Part of the window that the longest step takes.
    """
    if finding.share is None or finding.severity == "info" or steps >= LEAST_STEADY_STEPS:
        return finding
    carried = [one for one in SEVERITIES if _carries(finding.share, LEAST_SHARE[one], longest)]
    allowed = [one for one in carried if SEVERITIES.index(one) <= _rank(finding)] or ["info"]
    severity = allowed[-1] if steps > 1 else "info"
    return finding if severity == finding.severity else replace(finding, severity=severity)


def all_graded(findings: Sequence[Finding], steps: int, longest: float) -> tuple[Finding, ...]:
    """Each of them `graded`."""
    return tuple(graded(one, steps, longest) for one in findings)


def _carries(share: float, threshold: float, longest: float) -> bool:
    return share > longest + threshold * (1.0 - longest)


def _rank(finding: Finding) -> int:
    return SEVERITIES.index(finding.severity)
