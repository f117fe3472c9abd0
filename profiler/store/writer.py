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
from .appended_file import AppendedFile
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
from .whole_file import replace_file


def _header(name: str, base_ns: int) -> dict[str, object]:
    """The first line of a file."""
    header: dict[str, object] = {"format": FORMAT, "base_ns": base_ns}
    if COLUMNS[name]:
        header |= {"columns": COLUMNS[name], "unit_ns": UNIT_NS, "missing": MISSING}
    return header


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
            name: AppendedFile(
                os.path.join(folder, name + ".jsonl"),
                _header(name, base_ns),
                keeps=name in ("facts", "events"),
            )
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
        index, start_ns, wall_ns, phases_ns, cpu_ns, run_queue_ns = record[:6]
        micro_batches, samples, flags, micro, phases_cpu_ns, _, inferred = record[6:]
        a, b, c, d, e, f, g, h, i, j, k, m, n, _ = phases_ns
        unit = UNIT_NS
        line = _STEP_LINE % (
            index,
            (start_ns - self._base_ns) // unit,
            wall_ns // unit,
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
            micro_batches,
            -1 if samples is None else samples,
            flags,
            inferred,
        )
        if len(line) > STEP_BYTES_MAX:
            line = _coarse_step_line(record, self._base_ns)
        self._add_step(line)
        if micro:
            self._add_micro(record)
        if phases_cpu_ns is not None:
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
            if type(source) is int and type(extra) is int:  # nearly all of them
                line = f"[{kind},{at},{source},{extra}]\n"
            else:
                line = f"[{kind},{at},{_json(source)},{_json(extra)}]\n"
            self._files["marks"].lines.append(line)

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

    def _write(self, file: AppendedFile, now_ns: int) -> bool:
        try:
            file.write()
        except OSError as error:
            self._failed(file, error, now_ns)
            return False
        return True

    def _failed(self, file: AppendedFile, error: OSError, now_ns: int) -> None:
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


def write_process_info(folder: str, info: ProcessInfo) -> bool:
    """Writes proc.json as a whole; False where the folder cannot be written."""
    text = _json({"format": FORMAT, **asdict(info)})
    try:
        replace_file(os.path.join(folder, PROCESS_FILE), (text + "\n").encode("utf-8", "replace"))
    except OSError:
        return False
    return True


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
