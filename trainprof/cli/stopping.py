"""`--steps N`: the agent raises at the next ask; what swallows that is ended from outside."""

from __future__ import annotations

import signal
from pathlib import Path
from typing import TYPE_CHECKING

from trainprof.profiler.launch import STOP_GRACE_S

if TYPE_CHECKING:
    from trainprof.profiler.launch import Child

POLL_S = 0.2


def was_stopped(run_folder: Path) -> bool:
    """Whether an agent has reached the limit of steps."""
    return any(run_folder.glob("procs/*/stopped"))


def stand_by(child: Child, run_folder: Path) -> None:
    """Returns when the child has ended; ends it if it outlives its last step by 10 s."""
    while not child.wait_at_most(POLL_S):
        if not was_stopped(run_folder):
            continue
        if child.wait_at_most(STOP_GRACE_S):
            return
        child.terminate_tree(signal.SIGTERM)
        if not child.wait_at_most(STOP_GRACE_S):
            child.terminate_tree(signal.SIGKILL)
        return
