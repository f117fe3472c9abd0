"""`ChangedFile`: a file before and after."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ChangedFile:
    """A file before and after; `path` is absolute."""

    path: str
    old: bytes
    new: bytes
