"""Writes tracks as Chrome's JSON, which ui.perfetto.dev and chrome://tracing open, streamed."""

from __future__ import annotations

import gzip
import json
import math
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

from trainprof.errors import TrainprofError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.tracks import CounterTrack, Slice, Track

FIRST_PROCESS = 900_000_001
"""Number of the first process of ours: above what Linux gives processes (4,194,304)."""
PART_BYTES = 1 << 16
"""Of text that is gathered before it is written."""
_NO_CONTROLS = bytes.maketrans(bytes(range(32)), b" " * 32)


class PerfettoFile:
    """A file that is being written; what is put first stands above.

    Args:
        write: Takes the bytes.
    """

    def __init__(self, write: Callable[[bytes], object]) -> None:
        self._write_bytes = write
        self._taken: frozenset[str] = frozenset()
        self._processes: dict[str, int] = {}
        self._threads: dict[int, int] = {}
        self._pending = [b'{"traceEvents":[']
        self._size = 0
        self._first = True

    def avoid(self, processes: Iterable[str]) -> None:
        """Numbers of processes that others use in this file; said before the first row."""
        self._taken = frozenset(processes)

    def put_text(self, text: bytes) -> None:
        """Events that are written as they stand: JSON, without the brackets of its list."""
        told = text.translate(_NO_CONTROLS).decode(errors="replace").strip()
        if told:
            self._put(told.encode())

    def put(self, track: Track | CounterTrack) -> None:
        """One row."""
        if isinstance(track, CounterTrack):
            self._counter(track)
            return
        process = self._process(track.process)
        thread = self._threads[process] = self._threads.get(process, 0) + 1
        self._named(process, thread, "thread", track.name, thread)
        for one in track.slices:
            kind = {"cat": one.category} if one.category else {}
            self._event(
                ph="X",
                pid=process,
                tid=thread,
                name=one.name,
                **kind,
                ts=one.start_ns,
                dur=max(one.end_ns - one.start_ns, 0),
                args=one.told,
            )

    def finish(self, header: Mapping[str, object]) -> None:
        """Ends the file.

        Args:
            header: What else it says, beside the events.
        """
        rest = [
            f",{_json(str(key))}:{_json(value)}"
            for key, value in header.items()
            if key not in ("", "traceEvents")
        ]
        self._pending.append(f"]{''.join(rest)}}}\n".encode())
        self._write()

    def _counter(self, track: CounterTrack) -> None:
        process = self._process(track.process)
        for at_ns, value in track.values:
            if math.isfinite(value):
                self._event(ph="C", pid=process, name=track.name, ts=at_ns, args={"value": value})

    def _process(self, name: str) -> int:
        if name not in self._processes:
            number = FIRST_PROCESS + len(self._processes)
            while str(number) in self._taken or number in self._processes.values():
                number += 1
            self._processes[name] = number
            self._named(number, 0, "process", name, len(self._processes) - FIRST_PROCESS)
        return self._processes[name]

    def _named(self, process: int, thread: int, of: str, name: str, place: int) -> None:
        where = {"ph": "M", "pid": process, "tid": thread}
        self._event(**where, name=f"{of}_name", args={"name": name})
        self._event(**where, name=f"{of}_sort_index", args={"sort_index": place})

    def _event(self, **parts: Any) -> None:
        times = "".join(f',"{key}":{_us(parts.pop(key))}' for key in ("ts", "dur") if key in parts)
        self._put(f"{_json(parts)[:-1]}{times}}}".encode())

    def _put(self, text: bytes) -> None:
        self._pending.append(b"\n" if self._first else b",\n")
        self._pending.append(text)
        self._first = False
        self._size += len(text)
        if self._size > PART_BYTES:
            self._write()

    def _write(self) -> None:
        self._write_bytes(b"".join(self._pending))
        self._pending.clear()
        self._size = 0


@contextmanager
def perfetto_file(path: Path) -> Iterator[PerfettoFile]:
    """Opens a file to write; gzipped where its name ends with .gz. Without an end it is removed.

    Raises:
        TrainprofError: it cannot be written.
    """
    unfinished = path.with_name(f".{path.name}.part")

    file: IO[bytes] | gzip.GzipFile

    def write(text: bytes) -> None:
        try:
            file.write(text)
        except OSError as error:
            raise _cannot_write(path, error) from None

    try:
        with unfinished.open("wb") as raw:
            if path.suffix == ".gz":
                with gzip.GzipFile(filename="", fileobj=raw, mode="wb", mtime=0) as file:
                    yield PerfettoFile(write)
            else:
                file = raw
                yield PerfettoFile(write)
        unfinished.replace(path)
    except OSError as error:
        raise _cannot_write(path, error) from None
    finally:
        unfinished.unlink(missing_ok=True)


def _cannot_write(path: Path, error: OSError) -> TrainprofError:
    reason = error.strerror or "it is no place for a file"
    return TrainprofError(f"{path} cannot be written ({reason}); name another file with --out.")


def finding_slices(diagnosis: Diagnosis, start_ns: int, end_ns: int) -> list[Slice]:
    """The findings, the root cause first, each over the whole time that it was found in."""
    return [
        Slice(
            f"{finding.rule}: {finding.title}",
            start_ns,
            end_ns,
            {
                "severity": finding.severity,
                "summary": finding.summary,
                **({"share": finding.share} if finding.share is not None else {}),
                **(
                    {"gain": f"{finding.gain.low:.2f} to {finding.gain.high:.2f} times as fast"}
                    if finding.gain is not None
                    else {}
                ),
                "advice": [fix.text for fix in finding.fixes],
            },
        )
        for finding in diagnosis.findings
    ]


def _us(time_ns: int) -> str:
    """Microseconds with the nanoseconds as decimals, exact."""
    whole, part = divmod(abs(time_ns), 1000)
    return f"{'-' if time_ns < 0 else ''}{whole}.{part:03d}"


def _json(value: object) -> str:
    """JSON in which numbers that are none are told as text, and text cannot end a script."""
    try:
        return json.dumps(value, allow_nan=False, default=str).replace("<", "\\u003c")
    except ValueError:
        return json.dumps(_finite(value), default=str).replace("<", "\\u003c")


def _finite(value: object) -> object:
    if isinstance(value, float):
        return value if math.isfinite(value) else str(value)
    if isinstance(value, Mapping):
        return {str(key): _finite(one) for key, one in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(one) for one in value]
    return value
