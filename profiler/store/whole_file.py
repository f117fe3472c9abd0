"""Replaces a whole file in one step. Standard library only: the user's process uses it."""

from __future__ import annotations

import os


def replace_file(path: str, data: bytes) -> None:
    """Writes a whole file; a reader sees the old one or the new one, never a part.

    Raises:
        OSError: it cannot be written; the old file is as it was.
    """
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    try:
        try:
            written = 0
            while written < len(data):
                written += os.write(descriptor, data[written:])
        finally:
            os.close(descriptor)
        os.replace(temporary, path)
    except OSError:
        os.unlink(temporary)
        raise
