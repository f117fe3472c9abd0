"""Reads a run folder back: finished, killed, damaged or still being written."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from trainprof.errors import RunFolderError
from trainprof.profiler.model.records import ProcessInfo, RunInfo, Sample
from trainprof.profiler.model.run import ProcessRecord, Run
from trainprof.profiler.store.folder import run_inside
from trainprof.profiler.store.layout import (
    FORMAT,
    HOST_FILE,
    PROCESSES_FOLDER,
    RUN_FILE,
    RUNS_FOLDER,
)
from trainprof.profiler.store.lines import (
    UNREADABLE,
    Problems,
    check_format,
    read_objects,
)
from trainprof.profiler.store.process import read_process
from trainprof.profiler.store.sessions import build_sessions
from trainprof.profiler.store.stacks import read_stacks
from trainprof.profiler.store.status import read_status
from trainprof.profiler.store.traces import read_traces
from trainprof.profiler.store.tune_progress import tune_status

RUNS_BASE = Path(RUNS_FOLDER)

SAMPLE_BYTES_MAX = 64_000_000
"""Of longer runs' samples (days) this much is read, evenly spread over the run."""


def read_run(path: Path | str) -> Run:
    """The whole run. What is damaged is left out and named in `Run.problems`.

    Raises:
        RunFolderError: not a run folder, not readable, or of a newer format.
    """
    folder = Path(path)
    check_run_folder(folder)
    problems = Problems()
    info = read_run_info(folder, problems)
    with _collector_paused():
        processes = tuple(_processes(folder, problems))
    if info is None:
        info = _info_without_file(folder, processes)
    sessions, others = build_sessions(processes)
    with _collector_paused():
        samples = _samples(folder, problems)
        stacks = read_stacks(folder, problems)
    return Run(
        path=str(folder),
        info=info,
        status=read_status(info, folder),
        sessions=sessions,
        others=others,
        samples=samples,
        stacks=stacks,
        problems=tuple(problems.sentences),
        traces=read_traces(folder),
    )


def _samples(folder: Path, problems: Problems) -> tuple[Sample, ...]:
    path = folder / HOST_FILE
    return tuple(read_objects(path, Sample, "the machine", problems, SAMPLE_BYTES_MAX))


@contextmanager
def _collector_paused() -> Iterator[None]:
    """Millions of short-lived rows are no garbage to look for: a quarter of the time is saved."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def check_run_folder(folder: Path) -> None:
    """Raises RunFolderError, in one sentence, where `folder` cannot be a run folder."""
    try:
        if not folder.exists():
            raise RunFolderError(
                f"there is no run folder {folder}; `trainprof runs` lists those there are."
            )
        if not folder.is_dir():
            raise RunFolderError(
                f"{folder} is a file, not a run folder; give the folder that holds {RUN_FILE}."
            )
        names = {entry.name for entry in folder.iterdir()}
    except PermissionError:
        raise RunFolderError(
            f"{folder} may not be read by this user; read it as the user who recorded it."
        ) from None
    if not names & {RUN_FILE, PROCESSES_FOLDER}:
        raise RunFolderError(
            f"{folder} is not a run folder (it holds neither {RUN_FILE} nor {PROCESSES_FOLDER}/); "
            "record a run with `trainprof run train.py`."
        )


def read_run_info(folder: Path, problems: Problems) -> RunInfo | None:
    """run.json; None, and a problem, where it is absent or unreadable.

    Raises:
        RunFolderError: a newer format.
    """
    path = folder / RUN_FILE
    try:
        data = path.read_bytes()
        check_format(data, path)
        return msgspec.json.decode(data, type=RunInfo)
    except FileNotFoundError:
        problems.add(f"{RUN_FILE} is missing: the command and the machine are unknown")
    except OSError as error:
        problems.unreadable_file(RUN_FILE, "the run", error)
    except UNREADABLE:
        problems.add(f"{RUN_FILE} is unreadable: the command and the machine are unknown")
    return None


def _processes(folder: Path, problems: Problems) -> Iterator[ProcessRecord]:
    try:
        folders = sorted(entry for entry in (folder / PROCESSES_FOLDER).iterdir() if entry.is_dir())
    except FileNotFoundError:
        return
    except OSError as error:
        problems.unreadable_file(PROCESSES_FOLDER, "the run", error)
        return
    for process_folder in folders:
        record = read_process(process_folder, problems)
        if record is not None:
            yield record


def _info_without_file(folder: Path, processes: Sequence[ProcessRecord]) -> RunInfo:
    """What the processes tell of a run whose run.json is lost."""
    infos: list[ProcessInfo] = [process.info for process in processes]
    clocks = [info.clock["unix_s"] for info in infos if "unix_s" in info.clock]
    return RunInfo(
        format=FORMAT,
        name=folder.resolve().name,
        argv=(),
        cwd="",
        started_unix_s=min(clocks, default=folder.stat().st_mtime),
        started_ns=min((info.started_ns for info in infos), default=0),
        trainprof="unknown",
    )


@dataclass(frozen=True)
class RunEntry:
    """One run folder of a list.

    Attributes:
        info: None where run.json is absent, unreadable or of a newer format.
        status: As of `Run.status`, or "unreadable"; of a tune "tuned", or "tune" without a result.
        problem: Why `info` is None.
    """

    path: Path
    info: RunInfo | None
    status: str
    started_unix_s: float
    problem: str | None = None


def find_runs(base: Path | str = RUNS_BASE) -> list[RunEntry]:
    """The run folders under `base`, newest first; empty where there is no such folder.

    Raises:
        RunFolderError: `base` is a file or may not be read.
    """
    try:
        folders = [entry for entry in Path(base).iterdir() if _looks_like_run(entry)]
    except FileNotFoundError:
        return []
    except OSError as error:
        raise RunFolderError(
            f"the runs under {base} cannot be listed ({error.strerror}); "
            "give the folder that holds them with --base."
        ) from None
    entries = [_entry(folder) for folder in folders]
    return sorted(entries, key=lambda entry: (entry.started_unix_s, entry.path.name), reverse=True)


def latest_run(base: Path | str = RUNS_BASE) -> Path:
    """The run that started last.

    Raises:
        RunFolderError: there is none.
    """
    entries = find_runs(base)
    if not entries:
        raise RunFolderError(
            f"there is no run under {base}; record one with `trainprof run train.py`."
        )
    return entries[0].path


def resolve_run(argument: Path | str | None, base: Path | str = RUNS_BASE) -> Path:
    """The run folder that a command line means: a path, a name under `base`, or the latest.

    Raises:
        RunFolderError: there is no such run.
    """
    if argument is None:
        return latest_run(base)
    given, named = Path(argument), Path(base) / argument
    folder = named if not given.exists() and named.is_dir() else given
    check_run_folder(folder)
    return folder


def _looks_like_run(folder: Path) -> bool:
    try:
        return (folder / RUN_FILE).is_file() or (folder / PROCESSES_FOLDER).is_dir()
    except OSError:
        return False


def _entry(folder: Path) -> RunEntry:
    problems = Problems()
    run = run_inside(folder)
    try:
        info = read_run_info(run, problems)
    except RunFolderError as error:
        return RunEntry(folder, None, "unreadable", folder.stat().st_mtime, str(error))
    if info is None:
        problem = problems.sentences[0]
        return RunEntry(folder, None, "incomplete", folder.stat().st_mtime, problem)
    status = read_status(info, run)
    if run != folder and status != "running":
        status = tune_status(folder)
    return RunEntry(folder, info, status, info.started_unix_s)
