"""What a page shows beside the diagnosis."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.model.tuning import TuneResult


@dataclass(frozen=True, slots=True)
class Extras:
    """What the command that makes the page knows, and the diagnosis does not.

    Attributes:
        pages: Rule -> its page, as text.
        diffs: (rule, fix) -> the change of the source that the fix would be, as a unified diff.
        tune: What was tried of the fixes; None where no tune has.
        info: Machine and environment of the run; None for a trace.
    """

    pages: Mapping[str, str] = field(default_factory=dict)
    diffs: Mapping[tuple[str, str], str] = field(default_factory=dict)
    tune: TuneResult | None = None
    info: RunInfo | None = None
