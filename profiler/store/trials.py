"""What earlier runs of the same script came to: their arguments, losses and logged values."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainprof.errors import RunFolderError
from trainprof.profiler.model.records import Event, RunInfo
from trainprof.profiler.store.columns import read_columns
from trainprof.profiler.store.layout import PROCESSES_FOLDER
from trainprof.profiler.store.lines import Problems, read_objects
from trainprof.profiler.store.reader import find_runs

TUNES = ("tune", "tuned")
"""Statuses of what `trainprof tune` recorded."""
MOST_RUNS = 30
"""The latest of them; a diagnosis must not take long because a folder is full."""
MOST_BYTES = 4_000_000
"""Of a file of losses or events; runs with larger ones are left out."""
MOST_LAUNCHES = 1_000
"""The latest; of these only run.json is read."""


@dataclass(frozen=True, slots=True)
class Launch:
    """One run of the script, however it ended.

    Attributes:
        arguments: Of its command, the program included.
        ended_unix_s: None while it runs, and where it was killed.
    """

    arguments: tuple[str, ...]
    started_unix_s: float
    ended_unix_s: float | None


@dataclass(frozen=True, slots=True)
class EarlierRun:
    """One complete run.

    Attributes:
        arguments: Of its command.
        losses: Training losses in order. events: Of kind "metrics".
    """

    arguments: tuple[str, ...]
    started_unix_s: float
    losses: Sequence[float]
    events: tuple[Event, ...]


def read_earlier_runs(folder: Path, info: RunInfo) -> tuple[EarlierRun, ...]:
    """The complete runs beside `folder` of the same script in the same place, itself included.

    What cannot be read is left out: this is extra evidence, and no fault of the run at hand.
    """
    complete = [(path, one) for path, one, status in _alike(folder, info) if status == "complete"]
    runs = (_read(path, one) for path, one in complete[:MOST_RUNS])
    found = [run for run in runs if run is not None]
    return tuple(sorted(found, key=lambda run: run.started_unix_s))


def read_launches(folder: Path, info: RunInfo) -> tuple[Launch, ...]:
    """Every run beside `folder` of the same script in the same place, in order; itself included."""
    found = [
        Launch(tuple(one.argv), one.started_unix_s, one.ended_unix_s)
        for _, one, _ in _alike(folder, info)[:MOST_LAUNCHES]
    ]
    return tuple(sorted(found, key=lambda launch: launch.started_unix_s))


def _alike(folder: Path, info: RunInfo) -> list[tuple[Path, RunInfo, str]]:
    """Runs of the same script in the same place with their status, newest first."""
    try:
        entries = find_runs(folder.parent)
    except RunFolderError:
        return []
    here = (script(info.argv), info.cwd)
    return [
        (entry.path, entry.info, entry.status)
        for entry in entries
        if entry.info is not None
        and entry.status not in TUNES  # which is no training that anybody wanted
        and (script(entry.info.argv), entry.info.cwd) == here
    ]


def script(argv: Sequence[str]) -> tuple[str, ...]:
    """The part of a command that names the program: up to its first Python file, or `-m module`."""
    for place, argument in enumerate(argv):
        if argument.endswith(".py"):
            return tuple(argv[: place + 1])
        if argument == "-m":
            return tuple(argv[: place + 2])
    return tuple(argv[:1])


def _read(folder: Path, info: RunInfo) -> EarlierRun | None:
    """The process with the most losses stands for the run."""
    losses: Sequence[float] = ()
    events: tuple[Event, ...] = ()
    try:
        for path in sorted(folder.glob(f"{PROCESSES_FOLDER}/*/losses.jsonl")):
            beside = path.with_name("events.jsonl")
            sizes = [file.stat().st_size for file in (path, beside) if file.exists()]
            if max(sizes) > MOST_BYTES:
                return None
            columns = read_columns(path, "an earlier run", Problems())
            values = [] if columns is None else [float(v) for v in columns.values["value"]]
            if len(values) > len(losses):
                losses = values
                read = read_objects(beside, Event, "an earlier run", Problems())
                events = tuple(event for event in read if event.kind == "metrics")
    except (OSError, KeyError, ValueError, RunFolderError):
        return None
    return EarlierRun(info.argv, info.started_unix_s, losses, events) if len(losses) else None
