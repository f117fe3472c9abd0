"""Reads what `nsys export --type sqlite` writes: kernels, copies, calls, NVTX ranges.

Tables and columns as NVIDIA documents them (Nsight Systems, *SQLite Schema Reference*). Tables are
made only for what was recorded, and columns come and go between versions: what is absent is told,
the rest is read. The file is opened read-only and immutable, so that nothing appears beside it.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing
from pathlib import Path
from typing import Any
from urllib.parse import quote

import numpy as np

from trainprof.profiler.traces.columns import LARGEST, Interned
from trainprof.profiler.traces.events import MISSING, Events, Kind, Trace, Whole
from trainprof.profiler.traces.nvtx import NvtxRanges, renamed
from trainprof.profiler.traces.reading import MOST_EVENTS, TraceError

PART_ROWS = 1 << 16
"""Rows that are Python objects at a time."""
SMALLEST_ROW = 8
"""Bytes: a file that gives more rows than fit into it is damaged, and may give rows for ever."""
MOST_TEXT = 1 << 26
"""Bytes of one value; the names of kernels have some thousand."""
THREAD_BITS = 24
"""Of a globalTid, of which the process has the next 24: NVIDIA's own examples divide so."""
KERNELS, COPIES, FILLS, CALLS, WAITS, SYSTEM, RANGES = (
    "CUPTI_ACTIVITY_KIND_KERNEL",
    "CUPTI_ACTIVITY_KIND_MEMCPY",
    "CUPTI_ACTIVITY_KIND_MEMSET",
    "CUPTI_ACTIVITY_KIND_RUNTIME",
    "CUPTI_ACTIVITY_KIND_SYNCHRONIZATION",
    "OSRT_API",
    "NVTX_EVENTS",
)
_DIRECTIONS = (
    *("?", "HtoD", "DtoH", "HtoA", "AtoH", "AtoA", "AtoD", "DtoA", "DtoD", "HtoH", "PtoP"),
    *("HtoD", "DtoH", "DtoD"),  # of unified memory
)
_MEMORIES = ("Pageable", "Pinned", "Device", "Array", "Managed", "Device", "Managed", "Unknown")
_WAIT_KINDS = {1: "Event Sync", 2: "Stream Wait Event", 3: "Stream Sync", 4: "Context Sync"}
_PROPERTIES = {
    "name": "name",
    "totalMemory": "totalGlobalMem",
    "smCount": "numSms",
    "computeMajor": "computeMajor",
    "computeMinor": "computeMinor",
}
"""Columns of TARGET_INFO_GPU, and what Kineto calls them."""
_TOLD = {
    KERNELS: "no kernels: record with `nsys profile --trace=cuda,nvtx`",
    CALLS: "no calls of CUDA: record with `nsys profile --trace=cuda,nvtx`",
    RANGES: "no NVTX ranges, so no steps: record with `nsys profile trainprof run --nvtx ...`",
}


def read_nsight(path: Path) -> Trace:
    """The events of an export as columns.

    Raises:
        TraceError: it cannot be read, or holds nothing that lasts.
    """
    try:
        size = path.stat().st_size
        address = f"file:{quote(str(path.absolute()))}?mode=ro&immutable=1"
        with closing(sqlite3.connect(address, uri=True)) as connection:
            return _Reader(path, connection, size).read()
    except (sqlite3.Error, OSError, OverflowError, UnicodeDecodeError) as error:
        # a damaged file's text stands in the error, which Python cannot decode then
        damaged = isinstance(error, UnicodeDecodeError)
        reason = "its text is damaged" if damaged else ascii(str(error))[1:-1]
        raise TraceError(
            f"{path} is no export of Nsight Systems that can be read ({reason}); "
            "write it again with `nsys export --type sqlite`."
        ) from None


class _Reader:
    def __init__(self, path: Path, connection: sqlite3.Connection, size: int) -> None:
        self._path = path
        self._connection = connection
        self._most = min(size // SMALLEST_ROW, MOST_EVENTS)
        self._names, self._lanes = Interned(len), Interned(len)
        self._parts: list[Events] = []
        self._processes: dict[int, int] = {}
        self._skipped = 0
        self._told: list[str] = []
        connection.text_factory = lambda raw: raw.decode(errors="replace")
        if hasattr(connection, "setlimit"):  # from Python 3.11 on
            connection.setlimit(getattr(sqlite3, "SQLITE_LIMIT_LENGTH", 0), MOST_TEXT)
        connection.execute("PRAGMA trusted_schema=OFF")
        self._tables = {
            name: self._columns_of(name)
            for name, sql in connection.execute(
                "SELECT name, sql FROM sqlite_master WHERE type = 'table'"
            )
            if str(sql).upper().startswith("CREATE TABLE")  # no table that is made by code
        }

    def read(self) -> Trace:
        texts = self._texts()
        self._on_device(KERNELS, Kind.KERNEL, texts)
        self._on_device(COPIES, Kind.MEMCPY, texts)
        self._on_device(FILLS, Kind.MEMSET, texts)
        self._on_host(CALLS, Kind.RUNTIME, texts)
        self._on_host(SYSTEM, Kind.OTHER, texts)
        self._waits()
        self._ranges(texts)
        events = self._events()
        if not len(events):
            raise TraceError(
                f"{self._path} holds no kernels, calls or NVTX ranges of Nsight Systems; "
                "record with `nsys profile --trace=cuda,nvtx`."
            )
        lanes = self._lanes.values()
        return Trace(
            path=str(self._path),
            events=events,
            names=self._names.values(),
            lanes=lanes,
            lane_names=self._lane_names(texts, lanes),
            header={"deviceProperties": list(self._devices())},
            skipped=self._skipped,
            notes=tuple(self._told),
        )

    def _columns_of(self, table: str) -> frozenset[str]:
        """Those that are stored: what is computed is not asked for."""
        rows = self._connection.execute(f"PRAGMA table_info({_quoted(table)})")
        return frozenset(str(row[1]) for row in rows)

    def _rows(self, table: str, columns: Sequence[str]) -> Iterator[list[Any]]:
        """Rows in parts; a column that is absent is MISSING, as is a value."""
        there = self._tables.get(table, frozenset())
        asked = ", ".join(_whole(name) if name in there else str(MISSING) for name in columns)
        cursor = self._connection.execute(f"SELECT {asked} FROM {_quoted(table)}")
        count = 0
        while rows := cursor.fetchmany(PART_ROWS):
            count += len(rows)
            if count > self._most:
                raise sqlite3.DatabaseError(f"{table} gives more rows than its file can hold")
            yield rows

    def _numbers(self, table: str, columns: Sequence[str]) -> Iterator[dict[str, Whole]]:
        if not {"start", "end"} <= self._tables.get(table, frozenset()):
            if table in _TOLD:
                self._told.append(f"the export holds {_TOLD[table]}")
            return
        for rows in self._rows(table, ("start", "end", *columns)):
            found = np.array(rows, np.int64).reshape(-1, 2 + len(columns))
            start, end = found[:, 0], found[:, 1]
            sound = (start > -LARGEST) & (end < LARGEST) & (end >= start)
            self._skipped += int(len(found) - sound.sum())
            yield dict(zip(("start", "end", *columns), found[sound].T, strict=True))

    def _texts(self) -> dict[int, str]:
        found: dict[int, str] = {}
        if {"id", "value"} <= self._tables.get("StringIds", frozenset()):
            cursor = self._connection.execute(
                "SELECT CAST(id AS INTEGER), CAST(value AS TEXT) FROM StringIds"
            )
            for count, (number, text) in enumerate(cursor):
                if count > self._most:
                    raise sqlite3.DatabaseError("StringIds gives more rows than its file can hold")
                found[number] = text or ""
        return found

    def _process(self, global_ids: Whole) -> Whole:
        """A small number for each process, as correlation ids are counted in each by itself."""
        known = self._processes
        processes, places = np.unique(global_ids >> THREAD_BITS, return_inverse=True)
        numbers = [known.setdefault(one, len(known)) for one in processes.tolist()]
        found: Whole = np.array(numbers, np.int64)[places.reshape(-1)]
        return found

    def _correlation(self, found: dict[str, Whole], owner: str) -> Whole:
        own = found["correlationId"]
        joined = own + (self._process(found[owner]) << 40)
        found_ids: Whole = np.where((own > 0) & (own < 1 << 40), joined, MISSING)
        return found_ids

    def _on_device(self, table: str, kind: Kind, texts: dict[int, str]) -> None:
        columns = ["deviceId", "streamId", "correlationId", "globalPid", "bytes"]
        columns += ["demangledName", "shortName", "mangledName", "copyKind", "srcKind", "dstKind"]
        for found in self._numbers(table, columns):
            if kind == Kind.KERNEL:
                names = self._first_named(found, texts)
            elif kind == Kind.MEMCPY:
                kinds = zip(*(found[name].tolist() for name in columns[-3:]), strict=True)
                names = [_copy_name(*one) for one in kinds]
            else:
                names = ["Memset (Device)"] * len(found["start"])
            device = np.clip(found["deviceId"], MISSING, 2**31 - 1)
            lanes = [
                (f"GPU {one}", f"stream {stream}")
                for one, stream in zip(device.tolist(), found["streamId"].tolist(), strict=True)
            ]
            self._add(
                kind,
                names,
                lanes,
                found,
                device=device.astype(np.int32),
                stream=found["streamId"],
                correlation=self._correlation(found, "globalPid"),
                size=found["bytes"],
            )

    def _first_named(self, found: dict[str, Whole], texts: dict[int, str]) -> list[str]:
        columns = [found[name].tolist() for name in ("demangledName", "shortName", "mangledName")]
        return [
            next((texts[one] for one in ids if texts.get(one)), "a kernel without a name")
            for ids in zip(*columns, strict=True)
        ]

    def _on_host(self, table: str, kind: Kind, texts: dict[int, str]) -> None:
        for found in self._numbers(table, ("globalTid", "correlationId", "nameId")):
            names = [_unversioned(texts.get(one) or "a call") for one in found["nameId"].tolist()]
            correlation = (
                self._correlation(found, "globalTid")
                if kind == Kind.RUNTIME
                else np.full(len(names), MISSING)
            )
            lanes = _threads(found["globalTid"])
            self._add(kind, names, lanes, found, correlation=correlation)

    def _waits(self) -> None:
        columns = ("deviceId", "streamId", "correlationId", "globalPid", "syncType")
        for found in self._numbers(WAITS, columns):
            kinds = found["syncType"].tolist()
            self._add(
                Kind.OTHER,
                [_WAIT_KINDS.get(one, "Sync") for one in kinds],
                [("synchronisation", f"stream {one}") for one in found["streamId"].tolist()],
                found,
                stream=found["streamId"],
                correlation=self._correlation(found, "globalPid"),
            )

    def _ranges(self, texts: dict[int, str]) -> None:
        there = self._tables.get(RANGES, frozenset())
        if not {"start", "end"} <= there:
            self._told.append(f"the export holds {_TOLD[RANGES]}")
            return
        columns = ("start", "end", "globalTid", "eventType", "textId", "domainId")
        ranges = NvtxRanges(texts)
        text = 'CAST("text" AS TEXT)' if "text" in there else "NULL"
        asked = ", ".join(_whole(name) if name in there else str(MISSING) for name in columns)
        cursor = self._connection.execute(f"SELECT {asked}, {text} FROM {RANGES}")
        count = 0
        while rows := cursor.fetchmany(PART_ROWS):
            count += len(rows)
            if count > self._most:
                raise sqlite3.DatabaseError(f"{RANGES} gives more rows than its file can hold")
            ranges.add(rows)
        found = ranges.finish()
        if not len(found.start_ns):
            self._told.append(f"the export holds {_TOLD[RANGES]}")
            return
        lanes = _threads(found.thread)
        names, kinds = renamed(found.names, found.thread)
        times = {"start": found.start_ns, "end": found.end_ns}
        self._add(kinds, names, lanes, times)

    def _add(
        self,
        kind: Kind | Whole,
        names: Sequence[str],
        lanes: Sequence[tuple[str, str]],
        times: dict[str, Whole],
        **columns: Any,
    ) -> None:
        count = len(names)
        missing = np.full(count, MISSING, np.int64)
        self._parts.append(
            Events(
                kind=np.broadcast_to(np.asarray(kind, np.uint8), (count,)),
                name=self._names.places(names),
                start_ns=times["start"],
                end_ns=times["end"],
                lane=self._lanes.places(lanes),
                device=columns.get("device", missing.astype(np.int32)),
                stream=columns.get("stream", missing),
                correlation=columns.get("correlation", missing),
                external=missing,
                size=columns.get("size", missing),
                shape=missing.astype(np.int32),
            )
        )

    def _events(self) -> Events:
        columns = Events.__struct_fields__
        joined = Events(
            *(
                np.concatenate([getattr(one, name) for one in self._parts] or [np.zeros(0, int)])
                for name in columns
            )
        )
        return joined.where(np.lexsort((-joined.end_ns, joined.start_ns)))

    def _lane_names(self, texts: dict[int, str], lanes: Sequence[Any]) -> dict[int, str]:
        if not {"globalTid", "nameId"} <= self._tables.get("ThreadNames", frozenset()):
            return {}
        places = {lane: place for place, lane in enumerate(lanes)}
        names = {}
        for rows in self._rows("ThreadNames", ("globalTid", "nameId")):
            found = np.array(rows, np.int64).reshape(-1, 2)
            for lane, name in zip(_threads(found[:, 0]), found[:, 1].tolist(), strict=True):
                if lane in places and texts.get(name):
                    names[places[lane]] = texts[name]
        return names

    def _devices(self) -> Iterator[dict[str, object]]:
        there = self._tables.get("TARGET_INFO_GPU", frozenset())
        if "id" not in there:
            return
        columns = [name for name in _PROPERTIES if name in there]
        asked = ", ".join(_quoted(name) for name in ("id", *columns))
        for number, *values in self._connection.execute(
            f"SELECT {asked} FROM TARGET_INFO_GPU LIMIT 1024"
        ):
            told = dict(zip(columns, values, strict=True))
            yield {"id": number, **{_PROPERTIES[name]: value for name, value in told.items()}}


def _quoted(name: str) -> str:
    return '"{}"'.format(name.replace('"', '""'))


def _whole(name: str) -> str:
    return f"CAST(ifnull({_quoted(name)}, {MISSING}) AS INTEGER)"


def _threads(global_ids: Whole) -> list[tuple[str, str]]:
    mask = (1 << THREAD_BITS) - 1
    processes = ((global_ids >> THREAD_BITS) & mask).tolist()
    threads = (global_ids & mask).tolist()
    return [(str(process), str(thread)) for process, thread in zip(processes, threads, strict=True)]


def _copy_name(kind: int, source: int, target: int) -> str:
    """As Kineto writes it, so that the same rules read it."""
    direction = _DIRECTIONS[kind] if 0 <= kind < len(_DIRECTIONS) else "?"
    memories = (
        _MEMORIES[one] if 0 <= one < len(_MEMORIES) else "Unknown" for one in (source, target)
    )
    return f"Memcpy {direction} ({' -> '.join(memories)})"


def _unversioned(name: str) -> str:
    """`cudaLaunchKernel_v7000` is `cudaLaunchKernel`."""
    bare, _, version = name.rpartition("_v")
    name = bare if bare and version.isdecimal() else name
    return name.removesuffix("_ptsz")
