"""Shows where a finding points: a short path, and the line of source where it may be read."""

from __future__ import annotations

import os
import tokenize
from itertools import islice
from pathlib import Path

from trainprof.profiler.model.diagnosis import Location, RunSummary
from trainprof.profiler.store.source_files import open_to_readers
from trainprof.reports.text import printable


def short_path(path: str) -> str:
    """`path` relative to the working directory where it lies below it, else as it is."""
    if not os.path.isabs(path):
        return path
    try:
        relative = os.path.relpath(path)
    except OSError:  # the working directory is gone
        return path
    return path if relative.startswith("..") else relative


def place(location: Location) -> str:
    """`file:line`, as editors and terminals recognise it."""
    return f"{printable(short_path(location.file))}:{location.line}"


def source_line(location: Location, run: RunSummary) -> str | None:
    """The line of source, as Python decodes it; None where it must not or cannot be read."""
    _, lines = source_excerpt(location, run, 0)
    return lines[0] if lines else None


def source_excerpt(location: Location, run: RunSummary, around: int) -> tuple[int, list[str]]:
    """The line of source with `around` lines above and below: number of the first, the lines.

    No lines where they must not or cannot be read: a run folder may come from a stranger and name
    any file, so only Python source below the working directory of the run, or beside its script,
    is ever opened.
    """
    first = max(location.line - around, 1)
    try:
        path = Path(run.cwd or "", location.file).resolve(strict=True)
        if not open_to_readers(path, run.cwd, run.argv) or location.line < 1:
            return first, []
        with tokenize.open(path) as file:
            lines = [line.rstrip() for line in islice(file, first - 1, location.line + around)]
    except (OSError, ValueError, RuntimeError, SyntaxError):  # the last for an unknown encoding
        return first, []
    return first, lines if len(lines) > location.line - first else []
