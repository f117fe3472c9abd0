"""When a run that goes on is diagnosed for those who watch it, and what that costs."""

from __future__ import annotations

import os

FIRST_DIAGNOSIS_STEPS = 50
"""With fewer a diagnosis says that there is not enough evidence: it leaves out the first ones."""


def cpu_of_children_s() -> float:
    """CPU time of the processes that have ended, which is what a diagnosis runs in."""
    times = os.times()
    return times.children_user + times.children_system
