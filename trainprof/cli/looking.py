"""The look at the data set after a training: whether it is worth its time, and how it ended."""

from __future__ import annotations

from pathlib import Path

from trainprof.cli.moment import tell
from trainprof.profiler.model.collector_status import CollectorStatus
from trainprof.profiler.probe.supervise import Probe, find_copies, remove_copies
from trainprof.profiler.probe.worth import why_not

INTERRUPTED = CollectorStatus("probe", "missing", "the look at the data set was interrupted")


def look_at_data_set(
    folder: Path, asked: bool | None, budget_s: float, wall_s: float, *, interrupted: bool
) -> CollectorStatus:
    """Looks at the data set; a terminal is told so.

    Args:
        folder: The finished run.
        asked: `--probe`; None: where it is worth its time.
        budget_s: For the look itself.
        wall_s: How long the run took.
        interrupted: The training was ended by Ctrl-C: who pressed it wants no further waiting.

    Raises:
        KeyboardInterrupt: an interrupt ended the look; the record then says INTERRUPTED.
    """
    try:
        reason = "the training was interrupted" if interrupted else None
        if asked is None and reason is None:
            reason = why_not(folder, wall_s)
        if reason is None:
            return Probe(folder, budget_s, tell).run()
        remove_copies(find_copies(folder))
        return CollectorStatus("probe", "missing", reason)
    except OSError as error:
        return CollectorStatus("probe", "failed", f"{error.strerror or error}")
