"""The traces in a run folder: read back, and packed once the training has let go of them."""

from __future__ import annotations

import contextlib
import gzip
import os
import shutil
from collections.abc import Iterator
from pathlib import Path

from trainprof.profiler.model.run import TraceRecord
from trainprof.profiler.store.layout import TRACES_FOLDER
from trainprof.profiler.store.trace_files import ANSWER, TRACE, read_object

_LEVEL = 3
"""Of compression: twice as fast as the usual 6, and a tenth larger."""


def pack_traces(folder: Path) -> None:
    """Compresses the traces of a run; what cannot be written stays as it is."""
    for path in _paths(folder):
        if path.suffix == ".json" and TRACE.fullmatch(path.name):
            pack(path)


def pack(path: Path) -> Path:
    """Compresses one trace; gives where it lies afterwards."""
    packed = path.with_name(f"{path.name}.gz")
    temporary = path.with_name(f"{path.name}.{os.getpid()}.tmp")
    try:
        with path.open("rb") as text, gzip.open(temporary, "wb", compresslevel=_LEVEL) as file:
            shutil.copyfileobj(text, file, 1 << 20)
        temporary.replace(packed)
    except OSError:
        with contextlib.suppress(OSError):
            temporary.unlink()
        return packed if packed.exists() else path
    with contextlib.suppress(OSError):
        path.unlink()
    return packed


def read_traces(folder: Path) -> tuple[TraceRecord, ...]:
    """What a run knows of its traces, those that came to nothing too, by step."""
    records = [*_written(folder), *_without_trace(folder)]
    return tuple(sorted(records, key=lambda one: (one.first, one.process)))


def _written(folder: Path) -> Iterator[TraceRecord]:
    paths = {path.name.removesuffix(".gz"): path for path in _paths(folder)}
    steps = {
        str(answer.get("file")): answer.get("steps")
        for path in _paths(folder)
        if ANSWER.fullmatch(path.name) and (answer := read_object(str(path))) is not None
    }
    for name, path in paths.items():
        found = TRACE.fullmatch(name)
        if found is not None:
            count = steps.get(name)
            yield TraceRecord(
                process=found["process"],
                first=int(found["step"]),
                steps=count if isinstance(count, int) else None,
                path=str(path),
            )


def _without_trace(folder: Path) -> Iterator[TraceRecord]:
    for path in _paths(folder):
        found = ANSWER.fullmatch(path.name)
        answer = read_object(str(path)) if found is not None else None
        if found is None or answer is None or answer.get("state") == "written":
            continue
        first, steps = answer.get("first"), answer.get("steps")
        reason = answer.get("reason")
        yield TraceRecord(
            process=found["process"],
            first=first if isinstance(first, int) else -1,
            steps=steps if isinstance(steps, int) else None,
            reason=reason if isinstance(reason, str) else None,
        )


def _paths(folder: Path) -> list[Path]:
    try:
        return sorted((folder / TRACES_FOLDER).iterdir())
    except OSError:
        return []
