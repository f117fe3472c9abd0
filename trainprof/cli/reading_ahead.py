"""Reads and replays a trace in a process of its own, while this one imports what judges it.

Both take a third of a second, for a trace of some 200,000 events. So it begins before the command
line is understood, with what looks like the only trace among its words; while this process measures
the trace, that one replays what changes of the training would gain. Nothing depends on it: what
does not come back, or was another file, is read again, here.
"""

from __future__ import annotations

import gc
import os
import pickle
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

if TYPE_CHECKING:
    from trainprof.profiler.traces.events import Trace
    from trainprof.profiler.traces.text_parts import TextParts
    from trainprof.profiler.traces.timeline import Timeline
    from trainprof.profiler.traces.what_if import WhatIf

LEAST_BYTES, MOST_BYTES = 1 << 20, 32 << 20
"""Of a file: below, it is read at once; above, handing it over takes long and twice the memory."""

MOST_PARTS = 256
"""Of its text, of half a megabyte or less each, that are kept until somebody decodes them."""

PIPE_BYTES = 1 << 20
"""What Linux lets anybody have in a pipe."""

_SIZE = struct.Struct("=Q")


class Ahead:
    """One trace that is being read.

    Args:
        path: Of the file.

    Raises:
        OSError: it cannot be opened, or nothing more can be started.
    """

    def __init__(self, path: Path) -> None:
        from trainprof.profiler.traces.text_parts import TextParts

        self._path = path
        self._given: Trace | None = None
        # Imports take one core, inflating takes the other. A process with threads is not forked.
        with TextParts(path.open("rb")) as parts:
            parts.start(MOST_PARTS)
            os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")  # numpy would start threads
            import trainprof.profiler.traces.opening  # noqa: F401

            parts.stop()
            out_of, into = _wide_pipe()
            self._process = os.fork()
            if self._process == 0:
                os.close(out_of)  # or it would wait for ever for a parent that was killed
                _read_and_leave(path, parts, into)
        os.close(into)
        self._pipe = os.fdopen(out_of, "rb")

    def open(self, path: Path) -> Trace:
        """The trace that was read ahead; another one, or one that was lost, is read here.

        Raises:
            TraceError: it is none, or cannot be read.
        """
        from trainprof.profiler.traces.opening import open_trace
        from trainprof.profiler.traces.reading import TraceError

        if path != self._path:
            return open_trace(path)
        told = self._received()
        if told is None:
            return open_trace(path)
        found: Trace | str = pickle.loads(told)
        if isinstance(found, str):
            raise TraceError(found)
        self._given = found
        return found

    def what_if(self, trace: Trace, timeline: Timeline) -> WhatIf | None:
        """What changes would gain; of another trace than was read ahead, it is replayed here.

        Args:
            trace: What a file holds.
            timeline: Of it.
        """
        from trainprof.profiler.traces.what_if import what_if

        told = self._received() if trace is self._given else None
        if told is None:
            return what_if(trace, timeline)
        found: WhatIf | None = pickle.loads(told)
        return found

    def _received(self) -> bytes | None:
        """What comes next; None where that was lost."""
        size = self._pipe.read(_SIZE.size)
        if len(size) < _SIZE.size:
            return None
        told = self._pipe.read(_SIZE.unpack(size)[0])
        return told if len(told) == _SIZE.unpack(size)[0] else None

    def close(self) -> None:
        """Ends the process, where it still reads."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        self._pipe.close()


def _wide_pipe() -> tuple[int, int]:
    """A pipe that takes much at once, where the system has such: fewer turns between processes."""
    import fcntl  # which Windows lacks; there a sentence says so, and no import before it may fail

    out_of, into = os.pipe()
    if hasattr(fcntl, "F_SETPIPE_SZ"):
        with suppress(OSError):
            fcntl.fcntl(into, fcntl.F_SETPIPE_SZ, PIPE_BYTES)
    return out_of, into


def _read_and_leave(path: Path, parts: TextParts, into: int) -> None:
    """The process of its own: it leaves without a word, whatever happens."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        from trainprof.profiler.traces.opening import open_trace
        from trainprof.profiler.traces.reading import TraceError

        found: Trace | str
        try:
            found = open_trace(path, parts=parts)
        except TraceError as error:
            found = str(error)
        with open(into, "wb") as pipe:
            _send(pipe, found)
            if not isinstance(found, str):
                from trainprof.profiler.traces.timeline import timeline
                from trainprof.profiler.traces.what_if import what_if

                gc.disable()  # it has not long to live
                _send(pipe, what_if(found, timeline(found)))
        status = 0
    finally:
        os._exit(status)


def _send(pipe: BinaryIO, found: object) -> None:
    told = pickle.dumps(found, protocol=5)
    pipe.write(_SIZE.pack(len(told)))
    pipe.write(told)
    pipe.flush()


@contextmanager
def reading_ahead(words: Sequence[str]) -> Iterator[Ahead | None]:
    """Begins to read, where `diagnose` is asked for one trace and that gains time; None where not.

    Args:
        words: Of the command line, without the program's name.
    """
    ahead = _begun(_only_trace(words))
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


def _begun(path: Path | None) -> Ahead | None:
    try:
        return Ahead(path) if path is not None and _gains(path) else None
    except OSError:  # who reads it here says why
        return None


def _only_trace(words: Sequence[str]) -> Path | None:
    if words[:1] != ["diagnose"]:
        return None
    # What stands after --out is written, and what begins with a dash is an option.
    read = [word for option, word in pairwise(words) if option != "--out" and word[:1] != "-"]
    found = [word for word in read if word.endswith((".json", ".gz"))]
    return Path(found[0]) if len(found) == 1 else None


def _gains(path: Path) -> bool:
    if not hasattr(os, "sched_getaffinity") or "numpy" in sys.modules:
        return False  # with numpy the imports are done, and there are threads, which no fork takes
    if signal.getsignal(signal.SIGCHLD) is signal.SIG_IGN:
        return False  # then the system takes the process away: nobody could wait for it, or end it
    if len(os.sched_getaffinity(0)) < 2:
        return False
    try:
        return LEAST_BYTES <= path.stat().st_size <= MOST_BYTES
    except OSError:
        return False
