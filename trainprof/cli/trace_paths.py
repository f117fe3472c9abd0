"""Which of what a command was given are traces: files, and folders that hold some."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from trainprof.errors import UsageError
from trainprof.profiler.store.layout import PROCESSES_FOLDER, RUN_FILE, RUNS_FOLDER

PATTERNS = ("*.pt.trace.json", "*.pt.trace.json.gz"), ("*.json", "*.json.gz")
"""Of the files in a folder: as torch.profiler's handler for TensorBoard names them, else any that
may be one."""
SUFFIXES = (".json", ".gz", ".pickle", ".sqlite")
"""Of the files that hold traces and snapshots."""


def traces_among(given: Sequence[str]) -> list[Path]:
    """The traces to read, in order; none where runs are meant.

    Raises:
        UsageError: some are traces and others are not, or a file that is named is not there.
    """
    found, others = [], []
    for one in given:
        path = Path(one)
        if one.endswith(SUFFIXES) and not (path.exists() or Path(RUNS_FOLDER, one).exists()):
            raise UsageError(
                f"there is no file {one}; check its name, and the folder that it lies in."
            )
        traces = _traces(path)
        found += traces
        if not traces:
            others.append(one)
    if found and others:
        raise UsageError(
            f"{others[0]} is neither a trace nor a folder that holds any; give traces alone, or "
            "runs alone."
        )
    return found


def keep_traces(out: Path, traces: Sequence[Path]) -> None:
    """Sees to it that no trace is written over.

    Args:
        out: Where a command writes.
        traces: What it reads.

    Raises:
        UsageError: that is one of them.
    """
    if any(out.exists() and out.samefile(trace) for trace in traces):
        raise UsageError(f"{out} is the trace itself; name another file with --out.")


def _traces(path: Path) -> list[Path]:
    if path.is_file():
        return [path]
    if not path.is_dir() or (path / RUN_FILE).exists() or (path / PROCESSES_FOLDER).exists():
        return []
    for patterns in PATTERNS:
        found = sorted(file for one in patterns for file in path.glob(one) if file.is_file())
        if found:
            return found
    return []
