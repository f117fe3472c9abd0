"""Reads the columnar files of a run folder: one array per column, times in nanoseconds."""

from __future__ import annotations

from array import array
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeAlias

import msgspec

from trainprof.profiler.model.run import MISSING, STEP_COLUMNS, Steps
from trainprof.profiler.store.layout import COARSE, COARSE_TICKS, COLUMNS, STORED_PHASES
from trainprof.profiler.store.lines import (
    Header,
    Problems,
    array_of_lines,
    read_header,
    read_records,
)

if TYPE_CHECKING:
    import numpy as np

    Integers: TypeAlias = np.ndarray[Any, np.dtype[np.int64]]

Values: TypeAlias = "array[int] | array[float] | list[str]"

_TEXT = ("loader",)
_FLOAT = ("value",)


@dataclass
class Columns:
    """The columns of one file that this version knows, as they are in the file."""

    header: Header
    values: dict[str, Values] = field(default_factory=dict)

    def __len__(self) -> int:
        return len(next(iter(self.values.values()))) if self.values else 0

    def integers(self, name: str) -> Integers | None:
        """A view of an integer column; None where the file does not have it."""
        values = self.values.get(name)
        return _as_integers(values) if isinstance(values, array) else None

    def duration_ns(self, name: str) -> array[int]:
        """A column of ticks as nanoseconds, `MISSING` where not measured."""
        ticks = self.integers(name)
        if ticks is None:
            return array("q", [MISSING]) * len(self)
        ns = ticks * self.header.unit_ns
        ns[ticks == self.header.missing] = MISSING
        return _as_array(ns)

    def instant_ns(self, name: str) -> array[int]:
        """A column of ticks since the base as nanoseconds of the monotonic clock."""
        ticks = self.integers(name)
        if ticks is None:
            return array("q", [MISSING]) * len(self)
        return _as_array(ticks * self.header.unit_ns + self.header.base_ns)

    def counts(self, name: str) -> array[int]:
        """A column of whole numbers, `MISSING` where not measured."""
        values = self.integers(name)
        if values is None:
            return array("q", [MISSING]) * len(self)
        counts = values.copy()
        counts[values == self.header.missing] = MISSING
        return _as_array(counts)


def read_columns(path: Path, owner: str, problems: Problems) -> Columns | None:
    """The columns of a file; None where there is nothing to read.

    Columns that this version does not know are skipped; a line with another number of columns than
    the header says, or of other types, is left out and named in `problems`.
    """
    header = read_header(path, owner, problems)
    if header is None:
        return None
    known = COLUMNS[path.stem]
    columns = Columns(header)
    for name in header.columns:
        if name in known:
            columns.values[name] = empty_column(name)
    if not columns.values:
        return None
    for part in read_records(path, owner, problems, row_parser(header.columns, known)):
        for name, values in part.items():
            columns.values[name].extend(values)  # type: ignore[arg-type]
    return columns


@cache
def row_parser(
    names: tuple[str, ...], known: tuple[str, ...]
) -> Callable[[bytes], dict[str, Values]]:
    """Makes columns of whole lines: those of `names` that are `known`, as the file has them."""
    types = tuple(_type(name) if name in known else Any for name in names)
    decoder = msgspec.json.Decoder(list[tuple[types]])  # type: ignore[valid-type]
    kept = [(position, name) for position, name in enumerate(names) if name in known]

    def parse(chunk: bytes) -> dict[str, Values]:
        rows = decoder.decode(array_of_lines(chunk))
        if not rows:  # nothing but blanks
            return {}
        by_column = list(zip(*rows, strict=True))
        return {name: _values(name, by_column[position]) for position, name in kept}

    return parse


def _type(name: str) -> object:
    if name in _TEXT:
        return str
    return float | str if name in _FLOAT else int


def empty_column(name: str) -> Values:
    """A column of the type that the name has."""
    return _values(name, ())


def _values(name: str, values: Sequence[Any]) -> Values:
    if name in _TEXT:
        return list(values)
    if name in _FLOAT:
        return array("d", map(float, values))  # the strings are NaN, Infinity and -Infinity
    return array("q", values)


def read_steps(path: Path, owner: str, problems: Problems) -> Steps:
    """The steps of one process, in nanoseconds, with the residual derived."""
    columns = read_columns(path, owner, problems)
    return Steps() if columns is None else steps_of(columns, path, owner, problems)


def steps_of(columns: Columns, path: Path, owner: str, problems: Problems) -> Steps:
    """The steps that the columns of `path` hold; the columns are used up."""
    if not len(columns):
        return Steps()
    if not {"index", "start", "wall"} <= columns.values.keys():
        problems.add(f"{path.name} of {owner}: its columns are unknown, it is left out")
        return Steps()
    _spread_coarse(columns)
    result: dict[str, array[int]] = {"start_ns": columns.instant_ns("start")}
    for name in ("wall", *STORED_PHASES, "cpu", "run_queue"):
        if name in STORED_PHASES and name not in columns.values:
            # A phase that the writer did not know: its time is in the residual.
            result[f"{name}_ns"] = array("q", [0]) * len(columns)
            continue
        result[f"{name}_ns"] = columns.duration_ns(name)
        columns.values.pop(name, None)  # a million steps: one copy at a time
    for name in ("index", "micro_batches", "samples", "flags", "inferred"):
        result[name] = columns.counts(name)
    result["residual_ns"] = _residual(result)
    steps = Steps({name: result[name] for name in STEP_COLUMNS})
    return _without_impossible(steps, path, owner, problems)


def _spread_coarse(columns: Columns) -> None:
    """Brings the durations of coarse lines to the unit of the file."""
    flags = columns.integers("flags")
    if flags is None:
        return
    coarse = (flags & COARSE) != 0
    if coarse.any():
        for name in ("wall", *STORED_PHASES, "cpu", "run_queue"):
            ticks = columns.integers(name)
            if ticks is not None:
                ticks[coarse & (ticks != columns.header.missing)] *= COARSE_TICKS
        flags[coarse] &= ~COARSE


def _residual(columns: dict[str, array[int]]) -> array[int]:
    residual = _as_integers(columns["wall_ns"]).copy()
    for phase in STORED_PHASES:
        residual -= _as_integers(columns[f"{phase}_ns"])
    return _as_array(residual)


def _without_impossible(steps: Steps, path: Path, owner: str, problems: Problems) -> Steps:
    """The steps without those whose phases are negative or exceed the step: damaged digits."""
    possible = _as_integers(steps.columns["residual_ns"]) >= 0
    for phase in STORED_PHASES:
        possible &= _as_integers(steps.columns[f"{phase}_ns"]) >= 0
    if possible.all():
        return steps
    problems.unreadable_lines(int((~possible).sum()), path.name, owner)
    return Steps(
        {name: _as_array(_as_integers(values)[possible]) for name, values in steps.columns.items()}
    )


def _as_integers(values: array[Any]) -> Integers:
    """A view of an array without a copy."""
    import numpy as np

    return np.frombuffer(values, dtype=np.int64) if values else np.zeros(0, np.int64)


def _as_array(values: Integers) -> array[int]:
    result = array("q")
    result.frombytes(values.data.cast("B") if len(values) else b"")
    return result
