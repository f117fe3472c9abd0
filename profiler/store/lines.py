"""Reads files of JSON lines, by chunks, whatever state they are in.

A torn last line is dropped: the writer is at work, or was killed. A line that cannot be read is
left out and counted. Whole chunks are parsed at once; only a chunk that does not parse is cut in
halves until the bad lines are alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Annotated, TypeVar

import msgspec

from trainprof.errors import RunFolderError
from trainprof.profiler.store.layout import FORMAT

T = TypeVar("T")

CHUNK_BYTES = 131_072
"""Parsed at once; as Python objects some fifteen times this is in memory meanwhile."""

LINE_BYTES_MAX = 64_000_000
"""What has no line end for so long is no record (a hole left by a power loss, for one)."""

UNREADABLE = (msgspec.MsgspecError, ValueError, TypeError, OverflowError, RecursionError)
"""What a parser raises on lines that are not what they should be."""


Word = Annotated[int, msgspec.Meta(ge=-(2**63), le=2**63 - 1)]
"""What a column of 64 bits can be reckoned with; anything else is damage."""


class Loss(msgspec.Struct, frozen=True):
    """Noted in a header when lines could not be written."""

    from_ns: Word
    reason: str


class Header(msgspec.Struct, frozen=True):
    """The first line of a file; unknown keys are ignored."""

    base_ns: Word = 0
    columns: tuple[str, ...] = ()
    unit_ns: Word = 1
    missing: Word = -1
    lost: Loss | None = None


class Problems:
    """What was wrong with the files of one run, one sentence each.

    Attributes:
        losses: Owner -> (from_ns, reason) of the losses that headers tell of.
    """

    def __init__(self) -> None:
        self.sentences: list[str] = []
        self.losses: dict[str, list[tuple[int, str]]] = {}

    def add(self, sentence: str) -> None:
        """Notes a sentence."""
        self.sentences.append(sentence)

    def unreadable_lines(self, count: int, file: str, owner: str) -> None:
        """Notes that `count` lines of a file were left out."""
        if count == 1:
            self.add(f"{file} of {owner}: 1 line was unreadable and is left out")
        elif count:
            self.add(f"{file} of {owner}: {count} lines were unreadable and are left out")

    def unreadable_file(self, file: str, owner: str, error: OSError) -> None:
        """Notes that a file could not be read, or not to its end."""
        self.add(f"{file} of {owner} could not be read: {error.strerror or error}")


class _Version(msgspec.Struct, frozen=True):
    """All that may be expected of a JSON object of any format."""

    format: int = FORMAT


def check_format(data: bytes, where: Path) -> None:
    """Looks at the format before anything else: of a newer one nothing else is known.

    Raises:
        RunFolderError: a newer trainprof wrote the file.
        msgspec.MsgspecError: not a JSON object with a format.
    """
    found = msgspec.json.decode(data, type=_Version).format
    if found > FORMAT:
        raise RunFolderError(
            f"{where} was written by a newer trainprof (format {found}); "
            "upgrade trainprof to read it."
        )


def read_header(path: Path, owner: str, problems: Problems) -> Header | None:
    """The header; None where the file is absent, empty, or its first line is not readable.

    Raises:
        RunFolderError: the file is of a newer format.
    """
    try:
        with path.open("rb") as file:
            line = file.readline(LINE_BYTES_MAX)
    except FileNotFoundError:
        return None
    except OSError as error:
        problems.unreadable_file(path.name, owner, error)
        return None
    if not line.endswith(b"\n"):
        return None  # nothing but a torn first line
    try:
        check_format(line, path)
        header = msgspec.json.decode(line, type=Header)
    except UNREADABLE:
        problems.add(f"{path.name} of {owner}: its first line is unreadable, it is left out")
        return None
    if header.lost is not None:
        problems.losses.setdefault(owner, []).append((header.lost.from_ns, header.lost.reason))
    return header


def read_records(
    path: Path, owner: str, problems: Problems, parse: Callable[[bytes], T]
) -> Iterator[T]:
    """Parses the lines after the header, chunk by chunk.

    `parse` gets whole lines and raises one of `UNREADABLE` where any of them is bad.
    """
    bad = 0
    try:
        for chunk in _chunks(path):
            parts, bad_here = salvage(chunk, parse)
            bad += bad_here
            yield from parts
    except OSError as error:
        problems.unreadable_file(path.name, owner, error)
    problems.unreadable_lines(bad, path.name, owner)


def _chunks(path: Path) -> Iterator[bytes]:
    """The lines after the header, as chunks that end in a line end."""
    with path.open("rb") as file:
        file.readline(LINE_BYTES_MAX)
        pending: list[bytes] = []
        pending_bytes = 0
        while block := file.read(CHUNK_BYTES):
            cut = block.rfind(b"\n") + 1
            if cut:
                yield b"".join([*pending, block[:cut]])
                pending, pending_bytes = [], 0
            if cut < len(block) and pending_bytes <= LINE_BYTES_MAX:
                pending.append(block[cut:])
                pending_bytes += len(block) - cut


def salvage(chunk: bytes, parse: Callable[[bytes], T]) -> tuple[list[T], int]:
    """The parsed parts of a chunk, and how many lines no part could be made of."""
    try:
        return [parse(chunk)], 0
    except UNREADABLE:
        middle = chunk.rfind(b"\n", 0, len(chunk) // 2) + 1
        middle = middle or chunk.find(b"\n") + 1
        if middle == len(chunk):
            return [], 1 if chunk.strip() else 0
        left, bad_left = salvage(chunk[:middle], parse)
        right, bad_right = salvage(chunk[middle:], parse)
        return left + right, bad_left + bad_right


def array_of_lines(chunk: bytes) -> bytes:
    """The lines as one JSON array."""
    return b"[" + chunk[:-1].replace(b"\n", b",") + b"]"


def read_objects(
    path: Path, kind: type[T], owner: str, problems: Problems, bytes_max: int | None = None
) -> Iterator[T]:
    """The objects of a file, each line decoded as `kind`; unknown keys are ignored.

    Of a file larger than `bytes_max` every second, third ... line is read, evenly, so that about
    so much is.
    """
    if read_header(path, owner, problems) is None:
        return
    decoder = msgspec.json.Decoder(list[kind])  # type: ignore[valid-type]
    stride = 1 if bytes_max is None else -(-path.stat().st_size // bytes_max)

    def parse(chunk: bytes) -> list[T]:
        if stride > 1:
            chunk = b"".join(chunk.splitlines(keepends=True)[::stride])
        objects: list[T] = decoder.decode(array_of_lines(chunk))
        return objects

    for objects in read_records(path, owner, problems, parse):
        yield from objects
