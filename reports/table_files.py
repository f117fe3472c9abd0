"""Writes tables as files: CSV, or Parquet through pyarrow."""

from __future__ import annotations

import csv
import math
from collections.abc import Callable, Iterable, Mapping
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, TypeAlias

from trainprof.errors import MissingExtraError, TrainprofError
from trainprof.reports.tables import Batch, Cell, Column, Table

if TYPE_CHECKING:
    from collections.abc import Iterator

Put: TypeAlias = "Callable[[Batch], None]"
Opened: TypeAlias = "Callable[[Path, Table], AbstractContextManager[Put]]"


def write_tables(tables: Iterable[Table], folder: Path, form: str) -> list[Path]:
    """Writes each table as `<name>.<form>` into a folder, which is made where there is none.

    Args:
        tables: What to write.
        folder: Where.
        form: "csv" or "parquet".

    Returns:
        The files; those that were there before are replaced, each as a whole.

    Raises:
        MissingExtraError: Parquet, without pyarrow.
        TrainprofError: a file cannot be written.
    """
    opened = _OPENED[form]()
    paths = []
    try:
        folder.mkdir(parents=True, exist_ok=True)
        for table in tables:
            path = folder / f"{table.name}.{form}"
            unfinished = folder / f".{path.name}.part"
            try:
                with opened(unfinished, table) as put:
                    for batch in table.batches:
                        put(batch)
                unfinished.replace(path)
            finally:
                unfinished.unlink(missing_ok=True)
            paths.append(path)
    except OSError as error:
        reason = error.strerror or "it is no place for files"
        raise TrainprofError(
            f"{folder} cannot be written ({reason}); name another folder with --out."
        ) from None
    return paths


def _csv() -> Opened:
    return _open_csv


@contextmanager
def _open_csv(path: Path, table: Table) -> Iterator[Put]:
    """RFC 4180, but lines end in a line feed; what was not measured is an empty cell."""
    floats = [place for place, column in enumerate(table.columns) if column.kind is float]
    bools = [place for place, column in enumerate(table.columns) if column.kind is bool]
    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(column.name for column in table.columns)

        def put(batch: Batch) -> None:
            columns = list(batch)
            for place in floats:
                columns[place] = _with_words(columns[place])
            for place in bools:
                columns[place] = [_BOOLS[cell] for cell in columns[place]]
            writer.writerows(zip(*columns, strict=True))

        yield put


_BOOLS: Mapping[Any, str | None] = {True: "true", False: "false", None: None}


def _with_words(cells: Any) -> list[Cell]:
    """Numbers that are none as the run folder has them, which pandas and Python read back."""
    if None not in cells and math.isfinite(sum(cells)):  # nearly always; found without a loop
        return cells  # type: ignore[no-any-return]
    return [
        cell if cell is None or math.isfinite(cell) else _WORDS.get(cell, "NaN") for cell in cells
    ]


_WORDS = {math.inf: "Infinity", -math.inf: "-Infinity"}


def _parquet() -> Opened:
    try:
        import pyarrow
        import pyarrow.parquet
    except ImportError:
        raise MissingExtraError(
            "Parquet needs pyarrow, which is not installed: pip install 'trainprof[parquet]'"
        ) from None
    arrow: ModuleType = pyarrow

    @contextmanager
    def open_parquet(path: Path, table: Table) -> Iterator[Put]:
        fields = [_field(arrow, column) for column in table.columns]
        schema = arrow.schema(fields)
        with arrow.parquet.ParquetWriter(str(path), schema) as writer:

            def put(batch: Batch) -> None:
                arrays = [
                    arrow.array(cells, field.type)
                    for cells, field in zip(batch, fields, strict=True)
                ]
                writer.write_table(arrow.Table.from_arrays(arrays, schema=schema))

            yield put

    return open_parquet


def _field(arrow: Any, column: Column) -> Any:
    kinds = {float: arrow.float64, int: arrow.int64, bool: arrow.bool_, str: arrow.string}
    metadata = None if column.unit is None else {"unit": column.unit}
    return arrow.field(column.name, kinds[column.kind](), metadata=metadata)


_OPENED: Mapping[str, Callable[[], Opened]] = {"csv": _csv, "parquet": _parquet}
FORMS = tuple(_OPENED)
