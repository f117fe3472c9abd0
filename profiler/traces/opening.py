"""What kind of file a trace is, by its first bytes: names and endings are anything."""

from __future__ import annotations

import zlib
from enum import Enum
from pathlib import Path

FIRST_BYTES = 512
"""That are looked at."""


class Format(Enum):
    """Of a file that `trainprof diagnose` is given."""

    JSON = "JSON"
    PICKLE = "a pickle"
    SQLITE = "an SQLite database"
    ZIP = "a zip archive"
    OTHER = "something else"


def format_of(path: Path) -> Format:
    """The format of a file, also of one that is gzipped; OTHER where it cannot be opened."""
    try:
        with path.open("rb") as file:
            return format_of_text(file.read(FIRST_BYTES))
    except OSError:
        return Format.OTHER


def format_of_text(first: bytes) -> Format:
    """The same by the bytes that the file begins with."""
    if first[:2] == b"\x1f\x8b":
        try:
            first = zlib.decompressobj(31).decompress(first, FIRST_BYTES)
        except zlib.error:
            return Format.OTHER
    if first[:1] == b"\x80" and b"\x02" <= first[1:2] <= b"\x05":
        return Format.PICKLE
    if first.startswith(b"SQLite format 3\0"):
        return Format.SQLITE
    if first.startswith(b"PK\x03\x04"):
        return Format.ZIP
    bare = first.lstrip(b"\xef\xbb\xbf \t\r\n")
    return Format.JSON if bare[:1] in (b"{", b"[") else Format.OTHER
