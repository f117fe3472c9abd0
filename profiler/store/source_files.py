"""Which source files of a run may be opened afterwards, and whether they still are what ran."""

from __future__ import annotations

import os
import stat
from collections.abc import Sequence
from pathlib import Path

SOURCE_BYTES_MAX = 4 << 20
"""A larger file is data with the name of a source file."""


def open_to_readers(path: Path, cwd: str | None, argv: Sequence[str]) -> bool:
    """Whether a file is Python source below the run's working directory, or beside its script.

    A run folder may come from a stranger and name any file; nothing else is ever opened.

    Args:
        path: Resolved, with nothing symbolic left in it.
        cwd: Working directory of the run.
        argv: Its command.

    Raises:
        OSError: the file cannot be looked at.
    """
    roots = _roots(cwd, argv)
    if path.suffix != ".py" or not any(path.is_relative_to(root) for root in roots):
        return False
    status = path.stat()
    return stat.S_ISREG(status.st_mode) and status.st_size <= SOURCE_BYTES_MAX


def _roots(cwd: str | None, argv: Sequence[str]) -> list[Path]:
    if not cwd or not os.path.isabs(cwd):
        return []
    folder = Path(cwd)
    scripts = [folder / argument for argument in argv if argument.endswith(".py")]
    return [folder.resolve(), *(script.resolve().parent for script in scripts)]
