"""Reads a trace file, plain or gzipped, part by part: a file may be larger than memory."""

from __future__ import annotations

import gc
import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import msgspec

from trainprof.errors import TrainprofError
from trainprof.profiler.traces import text_parts
from trainprof.profiler.traces.columns import Columns
from trainprof.profiler.traces.decode import (
    BROKEN,
    Event,
    decode_events,
    has_exact_times,
    objects_in,
)
from trainprof.profiler.traces.events import Trace
from trainprof.profiler.traces.text_parts import TextParts

MOST_PENDING = 1 << 24
"""Bytes without the end of an event: no trace has so long a header, or one event."""
MOST_EVENTS = 100_000_000
"""Each takes some 80 bytes, and twice that for a moment."""
MOST_KEPT = 1 << 28
"""Bytes of names, shapes and the like, each counted once."""
LONGEST_NAME = 4096
"""Characters: the rest of a template's arguments tells nothing more."""
MOST_TRIES = 40
"""Places at which a part may seem to end and does not."""

_BETWEEN = re.compile(rb"\}\s*,\s*\{")
_START = re.compile(rb'"traceEvents"\s*:\s*\[')
_END = re.compile(rb"\]\s*(?:,\s*\"|\}\s*$|$)")


class TraceError(TrainprofError):
    """The file is no trace, or cannot be read."""


def read_trace(
    path: Path,
    passed: Callable[[bytes], None] | None = None,
    parts: TextParts | None = None,
) -> Trace:
    """The events of one file as columns.

    Args:
        path: Of a Kineto or Chrome trace: JSON, or that gzipped.
        passed: Is given the text of the events that are read, part by part: JSON without brackets.
        parts: Of the file, where somebody has begun to read it.

    Raises:
        TraceError: the file cannot be opened, or holds no events.
    """
    collecting = gc.isenabled()
    gc.disable()  # nothing that is made here has cycles, and there is much of it
    try:
        with parts or TextParts(path.open("rb")) as texts:
            return _Reader(path, passed).read(texts)
    except MemoryError:
        raise TraceError(f"{path} needs more memory than there is; record fewer steps.") from None
    except OSError as error:
        reason = error.strerror or "it cannot be read"
        raise TraceError(f"{path}: {reason}; name a trace file.") from None
    finally:
        if collecting:
            gc.enable()


class _Reader:
    def __init__(self, path: Path, passed: Callable[[bytes], None] | None) -> None:
        self._path = path
        self._passed = passed
        self._columns = Columns()
        self._header = b""
        self._skipped = 0
        self._torn = False
        self._begun = False
        self._ended = False
        self._exact = False

    def read(self, texts: TextParts) -> Trace:
        parts: list[bytes] = []
        size = wanted = 0
        for text in texts:
            parts.append(text)
            size += len(text)
            if size >= wanted:
                pending = self._understood(b"".join(parts))
                parts, size = [pending], len(pending)
                wanted = max(
                    text_parts.PART_BYTES, 2 * size
                )  # what is not understood is not read all again
        if not self._begun:
            raise self._no_trace("it holds no list of events")
        self._torn = texts.torn
        self._finish(b"".join(parts))
        return self._trace()

    def _understood(self, pending: bytes) -> bytes:
        """Takes what is whole; gives what follows."""
        if not self._begun:
            begin = self._begin(pending)
            if begin is not None:
                self._header, pending = pending[: begin[0]], pending[begin[1] :]
                self._exact = has_exact_times(pending)
                self._begun = True
        if self._begun and not self._ended and len(pending) >= text_parts.PART_BYTES:
            pending = self._take(pending)
        if self._ended:
            self._header, pending = self._header + pending, b""
        self._check(pending)
        return pending

    def _check(self, pending: bytes) -> None:
        if len(pending) > MOST_PENDING:
            raise self._no_trace(f"{MOST_PENDING >> 20} MiB of it hold no event")
        if len(self._header) > MOST_PENDING:
            size = f"{MOST_PENDING >> 20} MiB"
            raise self._no_trace(f"more than {size} of it stand beside its list of events")
        if self._columns.count > MOST_EVENTS:
            raise TraceError(
                f"{self._path} holds more than {MOST_EVENTS:,} events; record fewer steps."
            )
        if self._columns.kept_bytes > MOST_KEPT:
            raise TraceError(
                f"{self._path} holds more than {MOST_KEPT >> 20} MiB of names and shapes; record "
                "fewer steps, or without shapes."
            )

    def _begin(self, text: bytes) -> tuple[int, int] | None:
        """Where the header ends and the events begin; None while that cannot be told."""
        bare = text.lstrip(b"\xef\xbb\xbf \t\r\n")
        if bare.startswith(b"["):
            begin = len(text) - len(bare)
            return 0, begin + 1
        found = _START.search(text)
        return None if found is None else (found.start(), found.end())

    def _take(self, pending: bytes) -> bytes:
        """Decodes all events that are whole; gives what follows."""
        end = len(pending)
        for _ in range(MOST_TRIES):
            end = pending.rfind(b"}", 0, end)
            if end < 0:
                break
            if _BETWEEN.match(pending, end) and self._decoded(memoryview(pending)[: end + 1]):
                return pending[end + 1 :].lstrip().removeprefix(b",")
        if self._at_end(pending):
            return b""
        return pending if end < 0 else self._salvage(pending)

    def _decoded(self, text: bytes | memoryview) -> bool:
        try:
            events, skipped = decode_events(text, self._exact)
        except BROKEN:
            return False
        self._columns.add(events)
        self._skipped += skipped
        self._pass_on(text, skipped)
        return True

    def _pass_on(self, text: bytes | memoryview, skipped: int) -> None:
        if self._passed is not None:
            self._passed(objects_in(text) if skipped else bytes(text))

    def _salvage(self, pending: bytes) -> bytes:
        """Event by event, where a part is no JSON: what cannot be read is left out."""
        begin = 0
        events: list[Event] = []
        for found in _BETWEEN.finditer(pending):
            text = pending[begin : found.start() + 1]
            try:
                some, skipped = decode_events(text, self._exact)
                events += some
                self._skipped += skipped
                self._pass_on(text, skipped)
            except BROKEN:
                self._skipped += 1
            begin = found.end() - 1
        self._columns.add(events)
        return pending[begin:]

    def _at_end(self, pending: bytes) -> bool:
        """Whether the list of events ends in here; what follows belongs to the header."""
        end = len(pending)
        for _ in range(MOST_TRIES):
            end = pending.rfind(b"]", 0, end)
            if end < 0:
                return False
            if _END.match(pending, end) and self._decoded(memoryview(pending)[:end]):
                self._header += b'"":0' + pending[end + 1 :]
                self._ended = True
                return True
        return False

    def _finish(self, pending: bytes) -> None:
        if self._ended:
            self._header += pending
            return
        if self._at_end(pending):
            return
        rest = self._salvage(pending)
        if not self._at_end(rest) and not self._decoded(rest.rstrip().rstrip(b",")):
            self._skipped += 1
            self._torn |= not pending.rstrip().endswith((b"]", b"}"))

    def _trace(self) -> Trace:
        columns = self._columns
        events = columns.finish()
        if not len(events):
            raise self._no_trace("it holds no events that last")
        lanes = columns.lanes.values()
        return Trace(
            path=str(self._path),
            events=events,
            names=[name[:LONGEST_NAME] for name in columns.names.values()],
            lanes=[(str(process), str(thread)) for process, thread in lanes],
            lane_names={
                place: columns.lane_names[lane]
                for place, lane in enumerate(lanes)
                if lane in columns.lane_names
            },
            shapes=[_shape_text(one, 0) for one in columns.shapes.values()],
            types=[_shape_text(one, 1) for one in columns.shapes.values()],
            values=[_shape_text(one, 2) for one in columns.shapes.values()],
            header=self._said(),
            memory=columns.memory(),
            messages=columns.messages(),
            skipped=self._skipped,
            torn=self._torn,
        )

    def _said(self) -> Mapping[str, Any]:
        """What stands around the events; nothing where that is no JSON."""
        text = self._header if self._ended else self._header.rstrip().rstrip(b",") + b"}"
        try:
            found = msgspec.json.decode(text) if text.strip() not in (b"", b"}") else {}
        except BROKEN:
            return {}
        return found if isinstance(found, dict) else {}

    def _no_trace(self, why: str) -> TraceError:
        return TraceError(
            f"{self._path} is no trace that can be read: {why}; name a file that torch.profiler "
            "has exported."
        )


def _shape_text(found: Any, part: int) -> str:
    return "" if found is None else f"{found[part].decode(errors='replace')}"
