"""Reading the traces that `diagnose` was given: here or on a cluster, with a line of progress."""

from __future__ import annotations

import sys
import time
from collections.abc import Sequence
from pathlib import Path

from trainprof.cli.ending_signals import ending_signals
from trainprof.cli.moment import tell
from trainprof.cli.reading_ahead import Ahead
from trainprof.cli.settings import Settings
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.traces.opening import Format, format_of
from trainprof.rules.rank_brief import RankBrief, ToRead, Unread
from trainprof.rules.rank_traces import Briefs, Told, diagnose_traces, local_briefs
from trainprof.rules.trace_diagnosis import HERE, Reader

SILENT_S = 1.0
"""What takes less shows no progress."""


def briefs_by(engine: str, jobs: int | None) -> Briefs:
    """How traces of several ranks are read: on a Ray cluster, or in processes of this machine.

    Args:
        engine: "local" or "ray".
        jobs: Processes at a time here; None for what the machine has.
    """
    if engine == "local":
        return local_briefs(jobs)

    def briefs(tasks: Sequence[ToRead], told: Told) -> list[RankBrief | Unread]:
        from trainprof.rules.experiments.ray_engine import connected_ray
        from trainprof.rules.rank_cluster import cluster_briefs

        return cluster_briefs(connected_ray())(tasks, told)

    return briefs


def diagnosed_files(
    paths: Sequence[Path],
    settings: Settings,
    briefs: Briefs,
    ahead: Ahead | None = None,
    *,
    operators: bool = False,
) -> list[Diagnosis]:
    """The diagnoses of traces and of memory snapshots; these first.

    Args:
        paths: Of the files.
        settings: Which rules are asked.
        briefs: Reads traces of several ranks, wherever that is done.
        ahead: Has begun to read one of them.
        operators: Also how long each operator took, which only some formats show.

    Raises: as `diagnosed_traces`.
    """
    snapshots = [path for path in paths if format_of(path) is Format.PICKLE]
    traces = [path for path in paths if path not in snapshots]
    found = [_of_snapshot(path, settings) for path in snapshots]
    if traces:
        found += diagnosed_traces(traces, settings, briefs, ahead, operators=operators)
    return found


def _of_snapshot(path: Path, settings: Settings) -> Diagnosis:
    from trainprof.rules.snapshot_diagnosis import diagnose_snapshot

    return diagnose_snapshot(path, select=settings.select, ignore=settings.ignore)


def diagnosed_traces(
    paths: Sequence[Path],
    settings: Settings,
    briefs: Briefs,
    ahead: Ahead | None = None,
    *,
    operators: bool = False,
) -> list[Diagnosis]:
    """The diagnoses of trace files.

    Args:
        paths: Of the files.
        settings: Which rules are asked.
        briefs: Reads traces of several ranks, wherever that is done.
        ahead: Has begun to read the only one.
        operators: Also how long each operator took, which only some formats show.

    Raises:
        TrainprofError: a file is no trace.
        KeyboardInterrupt: the user had enough, and has been told what became of it.
    """
    progress = _Progress(len(paths))
    try:
        with ending_signals():
            return diagnose_traces(
                paths,
                select=settings.select,
                ignore=settings.ignore,
                briefs=briefs,
                reader=HERE if ahead is None else Reader(ahead.open, ahead.what_if),
                told=progress,
                operators=operators,
            )
    except KeyboardInterrupt:
        tell("")
        print(f"trainprof: {progress.stopped}", file=sys.stderr)
        raise
    finally:
        tell("")


class _Progress:
    def __init__(self, files: int) -> None:
        self._files = files
        self._done = 0
        self._begun_s = time.monotonic()

    def __call__(self, done: int) -> None:
        self._done = done
        if time.monotonic() - self._begun_s > SILENT_S:
            tell(f"read {done} of {self._files} traces")

    @property
    def stopped(self) -> str:
        """What a stop in the middle leaves, as a sentence."""
        if self._files == 1:
            return "stopped before the trace was read; nothing was diagnosed."
        return (
            f"stopped when {self._done} of {self._files} traces were read; nothing was diagnosed."
        )
