"""What kind of file a trace is, by its first bytes: names and endings are anything."""

from __future__ import annotations

import zlib
from collections.abc import Callable
from enum import Enum
from pathlib import Path

from trainprof.profiler.traces.events import Trace
from trainprof.profiler.traces.reading import TraceError, read_trace
from trainprof.profiler.traces.text_parts import TextParts

FIRST_BYTES = 512
"""That are looked at."""
REPORTS = (".nsys-rep", ".qdrep")
"""Endings of Nsight Systems' own files, whose form is not public."""


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


def open_trace(
    path: Path,
    passed: Callable[[bytes], None] | None = None,
    parts: TextParts | None = None,
) -> Trace:
    """The events of a trace of any kind as columns.

    Args:
        path: Of a Kineto or Chrome trace, or of an export of Nsight Systems to SQLite.
        passed: Of a JSON trace, is given the text of its events as `read_trace` says.
        parts: Of the file, where somebody has begun to read it.

    Raises:
        TraceError: it is none, or cannot be read.
    """
    if path.suffix in REPORTS:
        raise TraceError(
            f"{path} is a report that Nsight Systems alone can read; export it with "
            f"`nsys export --type sqlite {path}` and name the .sqlite file."
        )
    if format_of(path) is Format.SQLITE:
        from trainprof.profiler.traces.nsight import read_nsight  # sqlite3 takes 10 ms

        return read_nsight(path)
    return read_trace(path, passed, parts)
