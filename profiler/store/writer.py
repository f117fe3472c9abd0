"""Writes one process's folder of a run, from inside the user's process.

Append-only text, one writer per file, one `os.write` per file and flush: what was flushed survives
a SIGKILL, and a reader may look at any time. A folder that cannot be written never disturbs the
training: the data is dropped, and the run says from when it is missing.
"""

from __future__ import annotations

import json
import math
import os
import time
from collections.abc import Callable, Iterable
from dataclasses import asdict
from typing import Any

from ..model.records import (
    Event,
    Fact,
    Fetch,
    MemoryPoint,
    ProcessInfo,
    QueueDepth,
    StepRecord,
)
from .layout import (
    COARSE,
    COARSE_TICKS,
    COLUMNS,
    FORMAT,
    MISSING,
    PROCESS_FILE,
    STEP_BYTES_MAX,
    UNIT_NS,
)

_LOSS_NOTE_BYTES = 120
"""Blank bytes at the end of a header, where a full disk still lets a loss be noted in place."""

_KEPT_BYTES = 1_000_000
"""Facts and events that could not be written are kept for the next flush up to this size."""


def _integers(name: str) -> str:
    """The format of a line of integers."""
    return "[" + ",".join(["%d"] * len(COLUMNS[name])) + "]\n"


_STEP_LINE = _integers("steps")
_MICRO_LINE = _integers("micro")
_STATES_LINE = _integers("states")
_FETCH_LINE = _integers("fetch")
_COARSE_NS = UNIT_NS * COARSE_TICKS


class ProcessWriter:
    """The only writer of one process's folder.

    Records may be added from any thread; `flush` and `close` belong to one. Nothing here raises
    OSError. In a forked child `flush` does nothing: the folder belongs to the parent.

    Args:
        folder: An existing folder.
        base_ns: The instant (`perf_counter_ns`) that start columns are relative to.
        clock: Nanoseconds of the same clock; tests replace it.
    """

    def __init__(
        self, folder: str, base_ns: int, clock: Callable[[], int] = time.perf_counter_ns
    ) -> None:
        self._base_ns = base_ns
        self._clock = clock
        self._pid = os.getpid()
        self._files = {
            name: _File(folder, name, base_ns, keeps=name in ("facts", "events"))
            for name in COLUMNS
        }
        # Bound once: `step` runs for every training step.
        self._add_step = self._files["steps"].lines.append
        self._add_loss = self._files["losses"].lines.append
        self._facts_written: dict[tuple[str, str], str] = {}
        self._flushed_ns = clock()
        self._failed_from_ns: int | None = None
        self._failed_until_ns = 0
        self._reason = ""
        self._lost: str | None = None

    @property
    def lost(self) -> str | None:
        """One sentence on the data that could not be written, or None."""
        return self._lost

    def step(self, record: StepRecord) -> None:
        """Adds a step, and its micro-batches and thread states where it has some."""
        # Spelled out because it is the hot path: a loop over the columns costs twice as much.
        a, b, c, d, e, f, g, h, i, j, k, m, n, _ = record.phases_ns
        cpu_ns = record.cpu_ns
        run_queue_ns = record.run_queue_ns
        samples = record.samples
        unit = UNIT_NS
        line = _STEP_LINE % (
            record.index,
            (record.start_ns - self._base_ns) // unit,
            record.wall_ns // unit,
            a // unit,
            b // unit,
            c // unit,
            d // unit,
            e // unit,
            f // unit,
            g // unit,
            h // unit,
            i // unit,
            j // unit,
            k // unit,
            m // unit,
            n // unit,
            -1 if cpu_ns is None else cpu_ns // unit,
            -1 if run_queue_ns is None else run_queue_ns // unit,
            record.micro_batches,
            -1 if samples is None else samples,
            record.flags,
            record.inferred,
        )
        if len(line) > STEP_BYTES_MAX:
            line = _coarse_step_line(record, self._base_ns)
        self._add_step(line)
        if record.micro:
            self._add_micro(record)
        if record.phases_cpu_ns is not None:
            self._add_states(record)

    def _add_micro(self, record: StepRecord) -> None:
        self._files["micro"].lines.extend(
            _MICRO_LINE
            % (
                record.index,
                (micro.start_ns - self._base_ns) // UNIT_NS,
                micro.wall_ns // UNIT_NS,
                micro.data_wait_ns // UNIT_NS,
                micro.forward_ns // UNIT_NS,
                micro.backward_ns // UNIT_NS,
            )
            for micro in record.micro
        )

    def _add_states(self, record: StepRecord) -> None:
        cpu_ns = record.phases_cpu_ns or ()
        if record.phases_run_queue_ns is None:
            run_queue = [MISSING] * len(cpu_ns)
        else:
            run_queue = [value // UNIT_NS for value in record.phases_run_queue_ns]
        cpu = [value // UNIT_NS for value in cpu_ns]
        self._files["states"].lines.append(_STATES_LINE % (record.index, *cpu, *run_queue))

    def loss(self, step: int, value: float) -> None:
        """Adds one loss value; NaN and the infinities are written as strings."""
        # x - x is 0.0 for every finite x, and NaN otherwise.
        if value - value == 0.0:
            self._add_loss(f"[{step},{value!r}]\n")
        else:
            self._add_loss(f"[{step},{_json(value)}]\n")

    def queue(self, depth: QueueDepth) -> None:
        """Adds the number of batches that were ready at one ask."""
        ready = MISSING if depth.ready is None else depth.ready
        self._files["queue"].lines.append(
            f"[{depth.step},{_json(depth.loader)},{depth.wait_ns // UNIT_NS},{ready}]\n"
        )

    def memory(self, point: MemoryPoint) -> None:
        """Adds a reading of resident memory."""
        at = (point.at_ns - self._base_ns) // UNIT_NS
        self._files["memory"].lines.append(f"[{point.step},{at},{point.rss_bytes}]\n")

    def fetch(self, fetch: Fetch) -> None:
        """Adds one batch that this worker made."""
        self._files["fetch"].lines.append(
            _FETCH_LINE
            % (
                fetch.worker,
                (fetch.start_ns - self._base_ns) // UNIT_NS,
                fetch.wall_ns // UNIT_NS,
                fetch.cpu_ns // UNIT_NS,
                fetch.samples,
            )
        )

    def marks(self, marks: Iterable[tuple[Any, ...]]) -> None:
        """Adds raw marks (kind, time_ns, object, extra, ...); further members are not kept."""
        for kind, time_ns, source, extra, *_ in marks:
            at = (time_ns - self._base_ns) // UNIT_NS
            self._files["marks"].lines.append(f"[{kind},{at},{_json(source)},{_json(extra)}]\n")

    def fact(self, fact: Fact) -> None:
        """Adds a fact, unless the latest of its kind and key said the same."""
        data = _json(fact.data)
        if self._facts_written.get((fact.kind, fact.key)) == data:
            return
        self._facts_written[fact.kind, fact.key] = data
        self._files["facts"].lines.append(
            f'{{"kind":{_json(fact.kind)},"key":{_json(fact.key)},"at_ns":{fact.at_ns},"data":{data}}}\n'
        )

    def event(self, event: Event) -> None:
        """Adds an event."""
        self._files["events"].lines.append(
            f'{{"kind":{_json(event.kind)},"start_ns":{event.start_ns},'
            f'"duration_ns":{event.duration_ns},"data":{_json(event.data)}}}\n'
        )

    def flush(self) -> None:
        """Writes what was added since the last flush: one `os.write` per file with news."""
        if os.getpid() != self._pid:
            return
        now_ns = self._clock()
        *files, events = self._files.values()
        written = [self._write(file, now_ns) for file in files if file.lines]
        if self._failed_from_ns is not None and all(written) and (written or events.lines):
            self._add_missing_event()
        if events.lines:
            written.append(self._write(events, now_ns))
        if all(written):
            self._flushed_ns = now_ns
            if written:
                self._recovered()

    def close(self) -> None:
        """Flushes and closes the files; records that come later are still written by `flush`."""
        if os.getpid() != self._pid:
            return
        self.flush()
        for file in self._files.values():
            try:
                file.close()
            except OSError as error:  # a network file system may report a lost write only here
                self._failed(file, error, self._clock())

    def _write(self, file: _File, now_ns: int) -> bool:
        try:
            file.write()
        except OSError as error:
            self._failed(file, error, now_ns)
            return False
        return True

    def _failed(self, file: _File, error: OSError, now_ns: int) -> None:
        if self._failed_from_ns is None:
            self._failed_from_ns = self._flushed_ns
        self._failed_until_ns = now_ns
        self._reason = os.strerror(error.errno) if error.errno else str(error)
        self._lost = self._sentence(None)
        file.note_loss(self._failed_from_ns, self._reason)

    def _add_missing_event(self) -> None:
        from_ns = self._failed_from_ns or 0
        duration_ns = self._failed_until_ns - from_ns
        data = {"from_ns": from_ns, "reason": self._reason}
        event = Event("data_missing", from_ns, duration_ns, data)
        self.event(event)

    def _recovered(self) -> None:
        if self._failed_from_ns is not None:
            self._lost = self._sentence(self._failed_until_ns)
            self._failed_from_ns = None

    def _sentence(self, until_ns: int | None) -> str:
        from_s = ((self._failed_from_ns or 0) - self._base_ns) / 1e9
        until = "" if until_ns is None else f" to {(until_ns - self._base_ns) / 1e9:.1f} s"
        return (
            f"the run folder could not be written ({self._reason}): "
            f"data is missing from {from_s:.1f} s{until}"
        )


class _File:
    """One append-only file of lines; opened at its first write."""

    def __init__(self, folder: str, name: str, base_ns: int, keeps: bool) -> None:
        self.lines: list[str] = []
        self._path = os.path.join(folder, name + ".jsonl")
        self._header: dict[str, object] = {"format": FORMAT, "base_ns": base_ns}
        if COLUMNS[name]:
            self._header |= {"columns": COLUMNS[name], "unit_ns": UNIT_NS, "missing": MISSING}
        self._keeps = keeps
        self._descriptor = -1
        self._identity: tuple[int, int] | None = None
        self._size = 0
        self._torn = False

    def write(self) -> None:
        """Appends all lines. On an OSError whole lines that reached the file stay there."""
        count = len(self.lines)
        data = "".join(self.lines[:count]).encode("utf-8", "replace")
        del self.lines[:count]  # not clear(): another thread may have added one meanwhile
        written = start = 0
        try:
            self._open()
            head = b"\n" if self._torn else b""
            if self._size == 0:
                head = self._header_line()
            start = len(head)
            data = head + data
            while written < len(data):
                written += os.write(self._descriptor, data[written:] if written else data)
        except OSError:
            whole = data.rfind(b"\n", 0, written) + 1
            self._drop_torn_line(written, whole)
            self._keep(data[max(whole, start) :])
            raise
        self._size += written
        self._torn = False

    def note_loss(self, from_ns: int, reason: str) -> None:
        """Says in the header, in place, from when lines are missing: that needs no free space."""
        if self._size == 0:
            return
        loss = {"from_ns": from_ns, "reason": reason.encode("ascii", "replace").decode()[:64]}
        try:
            descriptor = os.open(self._path, os.O_WRONLY | os.O_CLOEXEC)
        except OSError:
            return  # nothing more can be done; the writer still holds the sentence
        try:
            os.pwrite(descriptor, self._header_line(loss), 0)
            os.close(descriptor)
        except OSError:
            return

    def close(self) -> None:
        """Closes the file if it is open."""
        if self._descriptor >= 0 and self._is_ours():
            descriptor, self._descriptor = self._descriptor, -1
            os.close(descriptor)

    def _open(self) -> None:
        if self._descriptor >= 0 and self._is_ours():
            return
        self._descriptor = -1
        flags = os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC
        descriptor = os.open(self._path, flags, 0o644)
        status = os.fstat(descriptor)
        self._descriptor = descriptor
        self._identity = (status.st_dev, status.st_ino)
        self._size = status.st_size

    def _is_ours(self) -> bool:
        """False once the script closed all descriptors: the number may now be a file of its own."""
        try:
            status = os.fstat(self._descriptor)
        except OSError:
            return False
        return (status.st_dev, status.st_ino) == self._identity

    def _header_line(self, loss: dict[str, object] | None = None) -> bytes:
        header = json.dumps(self._header, separators=(",", ":")).encode()
        if loss is None:
            return header + b" " * _LOSS_NOTE_BYTES + b"\n"
        noted = json.dumps(self._header | {"lost": loss}, separators=(",", ":")).encode()
        return noted.ljust(len(header) + _LOSS_NOTE_BYTES) + b"\n"

    def _drop_torn_line(self, written: int, whole: int) -> None:
        self._size += whole
        if written == whole:
            return
        try:
            os.ftruncate(self._descriptor, self._size)
        except OSError:
            self._size += written - whole
            self._torn = True

    def _keep(self, data: bytes) -> None:
        if self._keeps and len(data) <= _KEPT_BYTES:
            self.lines.insert(0, data.decode("utf-8"))


def write_process_info(folder: str, info: ProcessInfo) -> bool:
    """Writes proc.json as a whole; False where the folder cannot be written."""
    try:
        _replace(os.path.join(folder, PROCESS_FILE), _json({"format": FORMAT, **asdict(info)}))
    except OSError:
        return False
    return True


def _replace(path: str, text: str) -> None:
    """Writes a whole file; a reader sees the old or the new one, never a half."""
    temporary = f"{path}.{os.getpid()}.tmp"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o644)
    data = (text + "\n").encode("utf-8", "replace")
    try:
        written = 0
        while written < len(data):
            written += os.write(descriptor, data[written:])
    except OSError:
        os.close(descriptor)
        os.unlink(temporary)
        raise
    os.close(descriptor)
    os.replace(temporary, path)


def _coarse_step_line(record: StepRecord, base_ns: int) -> str:
    """A step line in units of 0.1 ms, for steps whose line would be too long."""

    def coarse(value: int | None) -> int:
        return MISSING if value is None else value // _COARSE_NS

    return _STEP_LINE % (
        record.index,
        (record.start_ns - base_ns) // UNIT_NS,
        coarse(record.wall_ns),
        *(coarse(value) for value in record.phases_ns[:-1]),
        coarse(record.cpu_ns),
        coarse(record.run_queue_ns),
        record.micro_batches,
        MISSING if record.samples is None else record.samples,
        record.flags | COARSE,
        record.inferred,
    )


def _json(value: object) -> str:
    """Strict JSON of anything: what JSON has no word for becomes text."""
    try:
        return json.dumps(
            value,
            ensure_ascii=False,
            allow_nan=False,
            default=str,
            skipkeys=True,
            separators=(",", ":"),
        )
    except ValueError:  # a non-finite number
        return json.dumps(_finite(value), ensure_ascii=False, default=str, separators=(",", ":"))


def _finite(value: Any) -> Any:
    """The same with NaN and the infinities as the strings "NaN", "Infinity", "-Infinity"."""
    if isinstance(value, float) and not math.isfinite(value):
        if math.isnan(value):
            return "NaN"
        return "Infinity" if value > 0 else "-Infinity"
    if isinstance(value, dict):
        return {str(key): _finite(member) for key, member in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(member) for member in value]
    return value
