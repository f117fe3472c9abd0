"""A run as tables: what `export --to csv` and `--to parquet` write, and nothing else.

Times are seconds since the run began, on one clock for all its processes. A cell without a
measurement is None, never zero.
"""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import TYPE_CHECKING, Any, TypeAlias, get_type_hints

from trainprof.profiler.model import records
from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.profiler.model.phases import PHASES
from trainprof.profiler.model.records import GpuSample, MachineSample, ProcessSample
from trainprof.profiler.model.run import MISSING, ProcessRecord, Run
from trainprof.reports.run_clock import RunClock
from trainprof.reports.text import printable

if TYPE_CHECKING:
    import numpy as np

Cell: TypeAlias = "float | int | bool | str | None"
Batch: TypeAlias = "Sequence[Sequence[Cell]]"
"""Rows that lie one after another, column by column; each column as long as the others."""

BATCH_ROWS = 65_536
"""So many rows are in memory at a time; a run may have millions."""
CELL_CHARACTERS = 32_767
"""A spreadsheet holds no longer text in a cell (Excel's published limit)."""

_UNITS = {
    "_bytes_per_s": "bytes/s",
    "_s_per_step": "s",
    "_bytes": "bytes",
    "_share": "share",
    "_ns": "ns",
    "_us": "us",
    "_mhz": "MHz",
    "_w": "W",
    "_j": "J",
    "_c": "°C",
    "_s": "s",
}
_FLAGS = {
    "epoch_boundary": records.EPOCH_BOUNDARY,
    "partial": records.PARTIAL,
    "update_inferred": records.UPDATE_INFERRED,
    "compiled": records.COMPILED,
    "last": records.LAST,
}
_PROCESS = {"training": int, "rank": int, "pid": int}


@dataclass(frozen=True, slots=True)
class Column:
    """A column: its unit is in its name, as far as it has one.

    Attributes:
        kind: float, int, bool or str; each of its cells is one, or None.
    """

    name: str
    kind: type

    @property
    def unit(self) -> str | None:
        """Of its numbers, by the end of its name; None for counts and texts."""
        if self.kind not in (float, int):
            return None
        found = (unit for ending, unit in _UNITS.items() if self.name.endswith(ending))
        return next(found, None)


@dataclass(frozen=True, slots=True)
class Table:
    """A table, whose rows may be gone through once.

    Attributes:
        batches: Of at most `BATCH_ROWS` rows each.
    """

    name: str
    columns: tuple[Column, ...]
    batches: Iterator[Batch]


def run_tables(run: Run, diagnosis: Diagnosis) -> Iterator[Table]:
    """Steps, losses, samples of the machine, its processes and its GPUs, and the findings.

    Args:
        run: As read from its folder.
        diagnosis: Of the same run.

    Returns:
        The tables, always the same ones; those of which nothing was recorded have no rows.
    """
    clock = RunClock(run.info)
    trainers = [
        (number, trainer)
        for number, session in enumerate(run.sessions, 1)
        for trainer in session.trainers
    ]
    yield Table("steps", _STEPS, chain.from_iterable(_steps(*one, clock) for one in trainers))
    yield _of_rows("losses", _LOSSES, (row for one in trainers for row in _losses(*one)))
    yield from _samples(run, clock)
    yield _of_rows("findings", _FINDINGS, _findings(diagnosis))
    yield _of_rows("evidence", _EVIDENCE, _evidence(diagnosis))


def _columns(**kinds: type) -> tuple[Column, ...]:
    return tuple(Column(name, kind) for name, kind in kinds.items())


def _of_rows(name: str, columns: tuple[Column, ...], rows: Iterator[Sequence[Cell]]) -> Table:
    return Table(name, columns, _batches(rows))


def _batches(rows: Iterator[Sequence[Cell]]) -> Iterator[Batch]:
    while several := list(islice(rows, BATCH_ROWS)):
        yield list(zip(*several, strict=True))


_STEPS = _columns(
    **_PROCESS,
    step=int,
    start_s=float,
    wall_s=float,
    **{f"{phase}_s": float for phase in PHASES},
    cpu_s=float,
    run_queue_s=float,
    samples=int,
    micro_batches=int,
    **dict.fromkeys(_FLAGS, bool),
    inferred=str,
)


def _steps(training: int, trainer: ProcessRecord, clock: RunClock) -> Iterator[Batch]:
    """Column by column, as they are kept: a step is 27 cells, and no object of its own."""
    import numpy as np

    kept = {
        name: np.frombuffer(values, np.int64) if values else np.zeros(0, np.int64)
        for name, values in trainer.steps.columns.items()
    }
    for first in range(0, len(trainer.steps), BATCH_ROWS):
        part = {name: values[first : first + BATCH_ROWS] for name, values in kept.items()}
        rows, flags = len(part["index"]), part["flags"]
        unasked = (flags & records.NO_LOADER) != 0
        waits = np.where(unasked, MISSING, part["data_wait_ns"])
        durations = (part["wall_ns"], waits, *(part[f"{phase}_ns"] for phase in PHASES[1:]))
        yield [
            [training] * rows,
            [trainer.info.rank] * rows,
            [trainer.info.pid] * rows,
            part["index"].tolist(),
            ((part["start_ns"] + clock.of(trainer.info)) / 1e9).tolist(),
            *(_seconds(values) for values in durations),
            *(_seconds(part[name]) for name in ("cpu_ns", "run_queue_ns")),
            *(_counts(part[name]) for name in ("samples", "micro_batches")),
            *(((flags & bit) != 0).tolist() for bit in _FLAGS.values()),
            _inferred(part["inferred"]),
        ]


def _seconds(values_ns: np.ndarray[Any, Any]) -> list[Cell]:
    return _with_gaps((values_ns / 1e9).tolist(), values_ns)


def _counts(values: np.ndarray[Any, Any]) -> list[Cell]:
    return _with_gaps(values.tolist(), values)


def _with_gaps(cells: list[Cell], values: np.ndarray[Any, Any]) -> list[Cell]:
    for position in (values == MISSING).nonzero()[0].tolist():
        cells[position] = None
    return cells


def _inferred(bits: np.ndarray[Any, Any]) -> list[Cell]:
    """The names of the phases of which a part was inferred; few combinations occur in a run."""
    names = {
        one: " ".join(phase for place, phase in enumerate(PHASES) if one >> place & 1) or None
        for one in set(bits.tolist())
    }
    return [names[one] for one in bits.tolist()]


_LOSSES = _columns(**_PROCESS, step=int, loss=float)


def _losses(training: int, trainer: ProcessRecord) -> Iterator[Sequence[Cell]]:
    for one in trainer.losses:
        yield training, trainer.info.rank, trainer.info.pid, one.step, one.value


def _samples(run: Run, clock: RunClock) -> Iterator[Table]:
    """Of each kind of sample one table, with every field that the record has."""
    looks: dict[str, tuple[type, Callable[[records.Sample], Sequence[object]]]] = {
        "machine": (MachineSample, lambda one: (one.machine,)),
        "processes": (ProcessSample, lambda one: one.processes),
        "gpus": (GpuSample, lambda one: one.gpus),
    }
    for name, (record, parts) in looks.items():
        kinds = _fields(record)
        rows = (
            (
                (one.at_ns + clock.supervisor) / 1e9,
                *(_cell(getattr(part, field), kind) for field, kind in kinds.items()),
            )
            for one in run.samples
            for part in parts(one)
        )
        yield _of_rows(name, _columns(at_s=float, **kinds), rows)


def _fields(record: type) -> dict[str, type]:
    """Kind of each field of a record of samples; several values in one are text, as JSON."""
    hints = get_type_hints(record)
    kinds: dict[str, type] = {}
    for field in dataclasses.fields(record):
        words = str(hints[field.name]).replace("<class '", "").replace("'>", "").split(" | ")
        kinds[field.name] = {"float": float, "int": int, "bool": bool}.get(words[0], str)
    return kinds


def _cell(value: Any, kind: type) -> Cell:
    if value is None or value == ():
        return None
    if kind is str:
        text = json.dumps(value, separators=(",", ":")) if isinstance(value, tuple) else value
        return _text(text)
    if kind is float:
        return float(value)
    return value if -(2**63) <= value < 2**63 else None  # more than any counter holds: damaged


def _text(value: object) -> str | None:
    """One line that every reader of UTF-8 takes; nothing for nothing."""
    return None if value is None or value == "" else printable(value, CELL_CHARACTERS)


_FINDINGS = _columns(
    training=int,
    finding=int,
    rule=str,
    severity=str,
    confidence=str,
    title=str,
    summary=str,
    share=float,
    recoverable_s_per_step=float,
    gain_low=float,
    gain_high=float,
    file=str,
    line=int,
    function=str,
    fixes=str,
    advice=str,
    next_bottleneck=str,
)


def _found(diagnosis: Diagnosis) -> Iterator[tuple[int, int, Finding]]:
    """Training, number and finding, the root cause of each training first."""
    for one in (diagnosis, *diagnosis.other_sessions):
        for number, finding in enumerate(one.findings, 1):
            yield one.run.session + 1, number, finding


def _findings(diagnosis: Diagnosis) -> Iterator[Sequence[Cell]]:
    for training, number, one in _found(diagnosis):
        gain, where = one.gain, one.where
        yield (
            training,
            number,
            *map(_text, (one.rule, one.severity, one.confidence, one.title, one.summary)),
            one.share,
            one.recoverable_s_per_step,
            None if gain is None else gain.low,
            None if gain is None else gain.high,
            None if where is None else _text(where.file),
            None if where is None else where.line,
            None if where is None else _text(where.function),
            _text(" ".join(fix.fix for fix in one.fixes)),
            _text(" ".join(fix.text for fix in one.fixes)),
            _text(one.next_bottleneck),
        )


_EVIDENCE = _columns(
    training=int,
    finding=int,
    rule=str,
    signal=str,
    value=float,
    text=str,
    unit=str,
    threshold=str,
    source=str,
)


def _evidence(diagnosis: Diagnosis) -> Iterator[Sequence[Cell]]:
    for training, number, finding in _found(diagnosis):
        for one in finding.evidence:
            is_number = isinstance(one.value, int | float) and not isinstance(one.value, bool)
            yield (
                training,
                number,
                _text(finding.rule),
                _text(one.signal),
                float(one.value) if is_number else None,
                None if is_number else _text(one.value),
                _text(one.unit),
                _text(one.threshold),
                _text(one.source),
            )
