"""Reads a trace in a process of its own while this one imports what judges it.

Both take a third of a second, for a trace of some 200,000 events. So it begins before the command
line is understood, with what looks like the only trace among its words. Nothing depends on it: what
does not come back, or was another file, is read again, here.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from trainprof.profiler.traces.events import Trace

LEAST_BYTES, MOST_BYTES = 1 << 20, 32 << 20
"""Of a file: below, it is read at once; above, handing it over takes long and twice the memory."""

_SIZE = struct.Struct("=Q")


class Ahead:
    """One trace that is being read.

    Args:
        path: Of the file.
    """

    def __init__(self, path: Path) -> None:
        self._path = path
        self._pipe, into = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            _read_and_leave(path, into)
        os.close(into)

    def open(self, path: Path) -> Trace:
        """The trace that was read ahead; another one, or one that was lost, is read here.

        Raises:
            TraceError: it is none, or cannot be read.
        """
        from trainprof.profiler.traces.opening import open_trace
        from trainprof.profiler.traces.reading import TraceError

        if path != self._path:
            return open_trace(path)
        with open(self._pipe, "rb", closefd=False) as pipe:
            size, told = pipe.read(_SIZE.size), pipe.read()
        if len(size) < _SIZE.size or _SIZE.unpack(size)[0] != len(told):
            return open_trace(path)
        found: Trace | str = pickle.loads(told)
        if isinstance(found, str):
            raise TraceError(found)
        return found

    def close(self) -> None:
        """Ends the process, where it still reads."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._pipe)


def _read_and_leave(path: Path, into: int) -> None:
    """The process of its own: it leaves without a word, whatever happens."""
    status = 1
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from trainprof.profiler.traces.opening import open_trace
        from trainprof.profiler.traces.reading import TraceError

        found: Trace | str
        try:
            found = open_trace(path)
        except TraceError as error:
            found = str(error)
        told = pickle.dumps(found, protocol=5)
        with open(into, "wb") as pipe:
            pipe.write(_SIZE.pack(len(told)))
            pipe.write(told)
        status = 0
    finally:
        os._exit(status)


@contextmanager
def reading_ahead(words: Sequence[str]) -> Iterator[Ahead | None]:
    """Begins to read, where `diagnose` is asked for one trace and that gains time; None where not.

    Args:
        words: Of the command line, without the program's name.
    """
    path = _only_trace(words)
    ahead = Ahead(path) if path is not None and _gains(path) else None
    try:
        yield ahead
    finally:
        if ahead is not None:
            ahead.close()


def _only_trace(words: Sequence[str]) -> Path | None:
    if words[:1] != ["diagnose"]:
        return None
    found = [word for word in words[1:] if word.endswith((".json", ".gz"))]
    return Path(found[0]) if len(found) == 1 else None


def _gains(path: Path) -> bool:
    if not hasattr(os, "sched_getaffinity") or "numpy" in sys.modules:
        return False  # with numpy the imports are done, and there are threads, which no fork takes
    if len(os.sched_getaffinity(0)) < 2:
        return False
    try:
        return LEAST_BYTES <= path.stat().st_size <= MOST_BYTES
    except OSError:
        return False
