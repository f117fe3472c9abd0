"""Reads what was added to a run folder since the last look: the work follows the new records."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from trainprof.profiler.model.records import Event, ProcessInfo, RunInfo, Sample
from trainprof.profiler.model.run import Steps
from trainprof.profiler.store.columns import Columns, empty_column, row_parser, steps_of
from trainprof.profiler.store.layout import (
    COLUMNS,
    HOST_FILE,
    OUTPUT_FILE,
    PROCESS_FILE,
    PROCESSES_FOLDER,
    RUN_FILE,
)
from trainprof.profiler.store.lines import (
    UNREADABLE,
    Header,
    Problems,
    array_of_lines,
    check_format,
    salvage,
)

T = TypeVar("T")

LOOK_BYTES_MAX = 500_000
"""Of one file at one look: what a long run has written before is read over several looks."""

OUTPUT_BYTES_MAX = 200_000
"""Of what the script printed, at one look: more than fits on many screens."""

NEW_PROCESSES_EVERY = 4
"""Looks from one search for new processes and for what `proc.json` says to the next."""


class FileTail:
    """One append-only file of lines, read from where the last look ended.

    Attributes:
        header: Its first line, once that is there.
        behind: Whether there is more than the last look took.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.header: Header | None = None
        self.behind = False
        self._offset = 0
        self._skips = False

    def lines(self, bytes_max: int = LOOK_BYTES_MAX) -> bytes:
        """The whole lines that were added; a torn one at the end is left for the next look.

        Raises:
            RunFolderError: the file is of a newer format.
        """
        self.behind = False
        try:
            if os.stat(self.path).st_size <= self._offset:
                return b""
            with open(self.path, "rb") as file:
                file.seek(self._offset)
                block = file.read(bytes_max)
        except OSError:  # not there yet, or gone
            return b""
        self.behind = len(block) == bytes_max
        cut = block.rfind(b"\n") + 1
        if not cut and self.behind:  # no record is as long: go on behind its end
            self._offset += len(block)
            self._skips = True
            return b""
        self._offset += cut
        whole = block[:cut]
        if self._skips and cut:
            whole, self._skips = whole[whole.index(b"\n") + 1 :], False
        return whole if self.header is not None else self._behind_header(whole)

    def _behind_header(self, whole: bytes) -> bytes:
        if not whole:
            return b""
        first, _, rest = whole.partition(b"\n")
        try:
            check_format(first, self.path)
            self.header = msgspec.json.decode(first, type=Header)
        except UNREADABLE:
            self.header = Header()
        return rest

    def parsed(self, parse: Callable[[bytes], T]) -> list[T]:
        """What `parse` makes of the new lines; those that it cannot read are left out."""
        whole = self.lines()
        return salvage(whole, parse)[0] if whole.strip() else []

    def objects(self, decoder: msgspec.json.Decoder[list[T]]) -> Iterator[T]:
        """The new lines, decoded one object each."""
        for part in self.parsed(lambda chunk: decoder.decode(array_of_lines(chunk))):
            yield from part

    def columns(self) -> Columns:
        """The new lines of a columnar file."""
        known = COLUMNS[self.path.stem]

        def parse(chunk: bytes) -> Columns:
            header = self.header or Header()
            part = row_parser(header.columns, known)(chunk)
            return Columns(header, dict(part))

        parts = self.parsed(parse)
        together = Columns(self.header or Header())
        for part in parts:
            for name, values in part.values.items():
                column = together.values.setdefault(name, empty_column(name))
                column.extend(values)  # type: ignore[arg-type]
        return together


class BytesTail:
    """A file of anything, read from where the last look ended; one that was cut is begun anew."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset: int | None = None

    def added(self, bytes_max: int = OUTPUT_BYTES_MAX) -> bytes:
        """What was added; of what is longer than `bytes_max` its end."""
        try:
            size = os.stat(self._path).st_size
            begin = 0 if self._offset is None or size < self._offset else self._offset
            if size == begin:
                self._offset = size
                return b""
            with open(self._path, "rb") as file:
                file.seek(max(begin, size - bytes_max))
                block = file.read(bytes_max)
                self._offset = file.tell()
        except OSError:  # there is none
            return b""
        return block


@dataclass(frozen=True, slots=True)
class NewRecords:
    """What one process has added; of one that trains also without any, where `info` is new.

    Attributes:
        folder: Name of its folder, which no other process of the run has.
        losses: (step, value), of micro-batches.
        queue: Batches that were ready, at each ask where that could be read.
    """

    folder: str
    info: ProcessInfo
    steps: Steps
    losses: tuple[tuple[int, float], ...] = ()
    queue: tuple[int, ...] = ()
    events: tuple[Event, ...] = ()


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at a run folder has found.

    Attributes:
        info: run.json as it is now; None while it cannot be read.
        behind: More was written before than one look takes: look again at once.
        output: What the script printed, where that is kept.
    """

    info: RunInfo | None
    records: tuple[NewRecords, ...] = ()
    samples: tuple[Sample, ...] = ()
    behind: bool = False
    output: bytes = b""


@dataclass(slots=True)
class _ReplacedFile:
    """A file that is replaced as a whole, decoded again when it has changed."""

    path: Path
    kind: type
    _seen: tuple[int, int] = (0, 0)
    value: object = None

    def look(self) -> None:
        """Reads it, if it changed; a damaged or absent file leaves what was read before."""
        try:
            status = os.stat(self.path)
            seen = (status.st_mtime_ns, status.st_ino)
            if seen == self._seen:
                return
            data = self.path.read_bytes()
            check_format(data, self.path)
            self.value = msgspec.json.decode(data, type=self.kind)
            self._seen = seen
        except (OSError, *UNREADABLE):
            return


@dataclass(slots=True)
class _ProcessTail:
    folder: Path
    about: _ReplacedFile
    told: ProcessInfo | None = None
    files: dict[str, FileTail] = field(default_factory=dict)

    def file(self, name: str) -> FileTail:
        if name not in self.files:
            self.files[name] = FileTail(self.folder / f"{name}.jsonl")
        return self.files[name]

    @property
    def behind(self) -> bool:
        return any(one.behind for one in self.files.values())


class RunTail:
    """A run folder, read as it grows.

    Args:
        folder: Of a run, being written or finished.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._info = _ReplacedFile(folder / RUN_FILE, RunInfo)
        self._host = FileTail(folder / HOST_FILE)
        self._output = BytesTail(folder / OUTPUT_FILE)
        self._processes: dict[str, _ProcessTail] = {}
        self._looks = 0
        self._events = msgspec.json.Decoder(list[Event])
        self._samples = msgspec.json.Decoder(list[Sample])

    def look(self) -> Look:
        """What was added since the last look.

        Raises:
            RunFolderError: a file is of a newer format.
        """
        searches = self._looks % NEW_PROCESSES_EVERY == 0
        if searches or self._info.value is None:  # times of records count from what it says
            self._info.look()
        if searches:
            self._find_processes()
        self._looks += 1
        records = [one for tail in self._processes.values() if (one := self._added(tail))]
        samples = tuple(self._host.objects(self._samples))
        behind = self._host.behind or any(tail.behind for tail in self._processes.values())
        info = self._info.value
        return Look(
            info=info if isinstance(info, RunInfo) else None,
            records=tuple(records),
            samples=samples,
            behind=behind,
            output=self._output.added(),
        )

    def rest(self) -> Iterator[Look]:
        """Looks until all is read of a run that has ended; see `look` for what is raised."""
        looks = NEW_PROCESSES_EVERY  # among so many one finds the processes that are new
        while looks > 0:
            look = self.look()
            looks -= not look.behind
            yield look

    def _find_processes(self) -> None:
        try:
            names = os.listdir(self.folder / PROCESSES_FOLDER)
        except OSError:
            return
        for name in sorted(names):
            if name not in self._processes:
                path = self.folder / PROCESSES_FOLDER / name
                about = _ReplacedFile(path / PROCESS_FILE, ProcessInfo)
                self._processes[name] = _ProcessTail(path, about)
            self._processes[name].about.look()

    def _added(self, tail: _ProcessTail) -> NewRecords | None:
        info = tail.about.value
        if not isinstance(info, ProcessInfo) or info.role == "python":
            return None
        found = NewRecords(
            folder=tail.folder.name,
            info=info,
            steps=_steps(tail.file("steps")),
            losses=_losses(tail.file("losses").columns()),
            queue=_ready(tail.file("queue").columns()),
            events=tuple(tail.file("events").objects(self._events)),
        )
        added = len(found.steps) or found.losses or found.queue or found.events
        if not added and (info.role != "trainer" or info is tail.told):
            return None
        tail.told = info
        return found


def _steps(file: FileTail) -> Steps:
    return steps_of(file.columns(), file.path, "", Problems())


def _losses(columns: Columns) -> tuple[tuple[int, float], ...]:
    if not {"step", "value"} <= columns.values.keys():
        return ()
    return tuple(zip(columns.values["step"], columns.values["value"], strict=True))  # type: ignore[arg-type]


def _ready(columns: Columns) -> tuple[int, ...]:
    missing = columns.header.missing
    return tuple(int(one) for one in columns.values.get("ready", ()) if one != missing)
