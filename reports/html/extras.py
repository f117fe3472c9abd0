"""What a page shows beside the diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainprof.profiler.model.diagnosis import Finding, FixAdvice, Location
from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.model.tuning import TuneResult

Change = tuple[str, str, Location | None]
"""Rule, fix and place: the same fix may be advised at several places."""


def change_of(finding: Finding, fix: FixAdvice) -> Change:
    """Which change of the source the fix of this finding is."""
    return finding.rule, fix.fix, fix.where or finding.where


@dataclass(frozen=True, slots=True)
class Extras:
    """What the command that makes the page knows, and the diagnosis does not.

    Attributes:
        pages: Rule -> its page, as text.
        diffs: The changes of the source that fixes would be, as unified diffs.
        tune: What was tried of the fixes; None where no tune has.
        info: Machine and environment of the run; None for a trace.
    """

    pages: Mapping[str, str] = field(default_factory=dict)
    diffs: Mapping[Change, str] = field(default_factory=dict)
    tune: TuneResult | None = None
    info: RunInfo | None = None
