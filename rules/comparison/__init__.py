"""Two groups of runs held against each other: which is faster, where, what else is different."""

from __future__ import annotations

from trainprof.rules.comparison.compare import compare
from trainprof.rules.comparison.measured import JudgedRun

__all__ = ["JudgedRun", "compare"]
