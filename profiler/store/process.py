"""Reads the folder of one process of a run."""

from __future__ import annotations

from array import array
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import msgspec

from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import (
    Event,
    Fact,
    Fetch,
    LossValue,
    MemoryPoint,
    MicroBatch,
    ProcessInfo,
    QueueDepth,
)
from trainprof.profiler.model.run import MISSING, PhaseStates, ProcessRecord
from trainprof.profiler.store.columns import Columns, read_columns, read_steps
from trainprof.profiler.store.layout import PROBE_FILE, PROCESS_FILE
from trainprof.profiler.store.lines import (
    UNREADABLE,
    Header,
    Problems,
    check_format,
    read_objects,
)
from trainprof.profiler.store.views import MicroBatches, RecordView


def read_process(folder: Path, problems: Problems) -> ProcessRecord | None:
    """Everything one process wrote; None where its folder is empty or cannot be entered.

    Raises:
        RunFolderError: a newer format.
    """
    info = _read_info(folder, problems)
    if info is None:
        return None
    owner = f"process {info.pid}"

    def columns(name: str) -> Columns:
        return read_columns(folder / f"{name}.jsonl", owner, problems) or Columns(Header())

    steps = read_steps(folder / "steps.jsonl", owner, problems)
    fetches = _fetches(columns("fetch"))
    events = tuple(read_objects(folder / "events.jsonl", Event, owner, problems))
    if len(steps):
        info = replace(info, role="trainer")  # a killed process may not have said so itself
    elif len(fetches):
        info = replace(info, role="worker")
    record = ProcessRecord(
        info=info,
        folder=str(folder),
        steps=steps,
        states=_states(columns("states")),
        micro=_micro(columns("micro")),
        losses=_losses(columns("losses")),
        queue=_queue(columns("queue")),
        memory=_memory(columns("memory")),
        facts=(
            *read_objects(folder / "facts.jsonl", Fact, owner, problems),
            *read_objects(folder / PROBE_FILE, Fact, owner, problems),
        ),
        events=events,
        fetches=fetches,
    )
    _note_missing_data(info, events, problems)
    return record


def _read_info(folder: Path, problems: Problems) -> ProcessInfo | None:
    """proc.json, or what the folder's name tells where that cannot be read."""
    path = folder / PROCESS_FILE
    try:
        if not any(folder.iterdir()):
            return None
        data = path.read_bytes()
        check_format(data, path)
        return msgspec.json.decode(data, type=ProcessInfo)
    except FileNotFoundError:
        problems.add(f"{folder.name} has no {PROCESS_FILE}: what it says of the process is missing")
    except PermissionError as error:
        problems.add(f"{folder.name} could not be read: {error.strerror}")
        return None
    except (OSError, *UNREADABLE):
        problems.add(
            f"{PROCESS_FILE} of {folder.name} is unreadable: what it says of the process is missing"
        )
    return _info_of_name(folder.name)


def _info_of_name(name: str) -> ProcessInfo | None:
    """<host>-<pid>-<start_ns>; the host may hold hyphens."""
    host, *numbers = name.rsplit("-", 2)
    if len(numbers) != 2 or not all(number.isdecimal() for number in numbers):
        return None
    pid, started_ns = map(int, numbers)
    return ProcessInfo(pid=pid, parent_pid=0, host=host, role="other", started_ns=started_ns)


def _note_missing_data(info: ProcessInfo, events: Sequence[Event], problems: Problems) -> None:
    """Says from when data is missing: by the event, or by a header where even that was refused."""
    outages: list[tuple[int, int | None, object]] = [
        (event.start_ns, event.start_ns + event.duration_ns, event.data.get("reason"))
        for event in events
        if event.kind == "data_missing"
    ]
    last_end_ns = max(
        (event.start_ns + event.duration_ns for event in events if event.kind == "data_missing"),
        default=info.started_ns - 1,
    )
    noted = sorted(problems.losses.pop(f"process {info.pid}", []))
    outages += [(from_ns, None, why) for from_ns, why in noted if from_ns > last_end_ns][:1]
    for from_ns, until_ns, reason in outages:
        from_s = (from_ns - info.started_ns) / 1e9
        until = "" if until_ns is None else f" to {(until_ns - info.started_ns) / 1e9:.1f} s"
        problems.add(
            f"process {info.pid} could not write the run folder ({reason}): "
            f"its data is missing from {from_s:.1f} s{until} after its start"
        )


def _fetches(columns: Columns) -> Sequence[Fetch]:
    if not len(columns):
        return ()
    return RecordView(
        Fetch,
        columns.counts("worker"),
        columns.instant_ns("start"),
        columns.duration_ns("wall"),
        columns.duration_ns("cpu"),
        columns.counts("samples"),
    )


def _losses(columns: Columns) -> Sequence[LossValue]:
    values = columns.values.get("value")
    if not len(columns) or not isinstance(values, array):
        return ()
    return RecordView(LossValue, columns.counts("step"), values)


def _queue(columns: Columns) -> Sequence[QueueDepth]:
    loaders = columns.values.get("loader")
    if not len(columns) or not isinstance(loaders, list):
        return ()

    def depth(step: int, loader: str, wait_ns: int, ready: int) -> QueueDepth:
        return QueueDepth(step, loader, wait_ns, None if ready == MISSING else ready)

    return RecordView(
        depth,
        columns.counts("step"),
        loaders,
        columns.duration_ns("wait"),
        columns.counts("ready"),
    )


def _memory(columns: Columns) -> Sequence[MemoryPoint]:
    if not len(columns):
        return ()
    return RecordView(
        MemoryPoint,
        columns.counts("step"),
        columns.instant_ns("at"),
        columns.counts("rss_bytes"),
    )


def _states(columns: Columns) -> Sequence[PhaseStates]:
    if not len(columns):
        return ()

    def states(step: int, *values_ns: int) -> PhaseStates:
        cpu_ns, run_queue_ns = values_ns[: len(PHASES)], values_ns[len(PHASES) :]
        return PhaseStates(step, cpu_ns, None if MISSING in run_queue_ns else run_queue_ns)

    return RecordView(
        states,
        columns.counts("step"),
        *(columns.duration_ns(f"{phase}_cpu") for phase in PHASES),
        *(columns.duration_ns(f"{phase}_run_queue") for phase in PHASES),
    )


def _micro(columns: Columns) -> MicroBatches | dict[int, tuple[MicroBatch, ...]]:
    if not len(columns):
        return {}
    records = RecordView(
        MicroBatch,
        columns.instant_ns("start"),
        columns.duration_ns("wall"),
        columns.duration_ns("data_wait"),
        columns.duration_ns("forward"),
        columns.duration_ns("backward"),
    )
    return MicroBatches(columns.counts("step"), records)
