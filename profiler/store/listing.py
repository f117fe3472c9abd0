"""What a list of runs shows of each, read without reading the run."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trainprof.errors import RunFolderError
from trainprof.profiler.model.records import ProcessInfo
from trainprof.profiler.store.folder import run_inside
from trainprof.profiler.store.layout import (
    COARSE,
    COARSE_TICKS,
    DIAGNOSIS_FILE,
    PROCESS_FILE,
    PROCESSES_FOLDER,
)
from trainprof.profiler.store.lines import UNREADABLE, Header, Problems, read_header

_TAIL_BYTES = 65_536
"""Of the end of a file, to find its last whole line in."""


@dataclass(frozen=True)
class Glance:
    """The size of a run.

    Attributes:
        steps: Steps of all its trainings, one rank counted of each; None where none was recorded.
        mean_step_s: From the first step's start to the last one's end, divided by their number.
        disk_bytes: Blocks that the folder takes.
        steady_mean_s: Of the steady steps, from the diagnosis in the folder; None without one.
    """

    steps: int | None
    mean_step_s: float | None
    disk_bytes: int
    steady_mean_s: float | None = None


class _Steps(msgspec.Struct):
    mean_s: float | None = None


class _Diagnosis(msgspec.Struct):
    steps: _Steps


def glance(folder: Path) -> Glance:
    """Looks at the first and the last step of each process; unreadable ones count as absent."""
    steps = 0
    span_ns = 0
    for path in sorted(run_inside(folder).glob(f"{PROCESSES_FOLDER}/*/steps.jsonl")):
        if _is_first_rank(path.parent):
            count, process_span_ns = _first_and_last(path)
            steps += count
            span_ns += process_span_ns
    mean_step_s = span_ns / steps / 1e9 if steps else None
    return Glance(steps or None, mean_step_s, _disk_bytes(folder), _steady_mean_s(folder))


def _steady_mean_s(folder: Path) -> float | None:
    try:
        stored = (run_inside(folder) / DIAGNOSIS_FILE).read_bytes()
        return msgspec.json.decode(stored, type=_Diagnosis).steps.mean_s
    except (OSError, *UNREADABLE):
        return None


def _is_first_rank(folder: Path) -> bool:
    try:
        info = msgspec.json.decode((folder / PROCESS_FILE).read_bytes(), type=ProcessInfo)
    except (OSError, *UNREADABLE):
        return True
    return info.rank in (None, 0)


def _first_and_last(path: Path) -> tuple[int, int]:
    """Number of steps and the time from the first one's start to the last one's end."""
    try:
        header = read_header(path, "", Problems())
    except RunFolderError:  # a newer format
        return 0, 0
    if header is None or not {"index", "start", "wall"} <= set(header.columns):
        return 0, 0
    rows = list(_outer_rows(path, header))
    if not rows:
        return 0, 0
    first, last = rows[0], rows[-1]
    wall = last["wall"] * (COARSE_TICKS if last.get("flags", 0) & COARSE else 1)
    span_ns = (last["start"] + wall - first["start"]) * header.unit_ns
    return last["index"] - first["index"] + 1, span_ns


def _outer_rows(path: Path, header: Header) -> Iterator[dict[str, int]]:
    """The rows that can be read among the first line and the last few."""
    try:
        with path.open("rb") as file:
            file.readline()
            first = file.readline()
            begin = max(file.tell(), path.stat().st_size - _TAIL_BYTES)
            file.seek(begin)
            tail = file.read().splitlines(keepends=True)
    except OSError:
        return
    for line in [first, *tail]:
        try:
            row = msgspec.json.decode(line, type=list[int])
        except UNREADABLE:
            continue
        if line.endswith(b"\n") and len(row) == len(header.columns):
            yield dict(zip(header.columns, row, strict=True))


def _disk_bytes(folder: Path) -> int:
    total = 0
    for parent, folders, files in os.walk(folder):
        for name in [*folders, *files]:
            try:
                total += os.lstat(os.path.join(parent, name)).st_blocks * 512
            except OSError:  # gone meanwhile
                continue
    return total
