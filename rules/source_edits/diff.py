"""A patch as a unified diff that `git apply` and `patch -p1` take."""

from __future__ import annotations

import difflib
import os
import re
from pathlib import Path

from trainprof.rules.source_edits.changed_file import ChangedFile

_LINE = re.compile(rb"[^\n]*\n|[^\n]+")


def unified_diff(files: tuple[ChangedFile, ...], folder: Path) -> bytes:
    """The diff, in the bytes of the files; empty if there are none.

    Args:
        files: Before and after.
        folder: Paths below it are relative to it.
    """
    return b"".join(_diff_of(one, folder) for one in files)


def _diff_of(file: ChangedFile, folder: Path) -> bytes:
    name = shown_path(file.path, folder)
    old, new = (name, name) if os.path.isabs(name) else (f"a/{name}", f"b/{name}")
    lines = difflib.diff_bytes(
        difflib.unified_diff,
        _LINE.findall(file.old),
        _LINE.findall(file.new),
        os.fsencode(old),
        os.fsencode(new),
    )
    return b"".join(_ended(line) for line in lines)


def _ended(line: bytes) -> bytes:
    return line if line.endswith(b"\n") else line + b"\n\\ No newline at end of file\n"


def shown_path(path: str, folder: Path) -> str:
    """Relative to a folder if it lies below it, else absolute."""
    relative = os.path.relpath(path, folder)
    return path if relative.startswith(os.pardir) else relative
