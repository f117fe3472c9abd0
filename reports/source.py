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
    """The line of source, as Python decodes it; None where it must not or cannot be read.

    A run folder may come from a stranger and name any file, so only Python source below the
    working directory of the run, or beside its script, is ever opened.
    """
    try:
        path = Path(run.cwd or "", location.file).resolve(strict=True)
        if not open_to_readers(path, run.cwd, run.argv) or location.line < 1:
            return None
        with tokenize.open(path) as file:
            line = next(islice(file, location.line - 1, location.line), None)
    except (OSError, ValueError, RuntimeError, SyntaxError):  # the last for an unknown encoding
        return None
    return None if line is None else line.rstrip()
