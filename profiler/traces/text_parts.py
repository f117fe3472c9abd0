"""The text of a trace file, part by part, which a thread reads and inflates ahead of their use."""

from __future__ import annotations

import errno
import threading
import zlib
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import BinaryIO

PART_BYTES = 1 << 19
"""Of text in a part, at most; as many are decoded at a time, which takes ten times as much memory
and stays near the processor."""
PACKED_BYTES = 1 << 15
"""Of a packed file at a time, which makes about one part."""


class TextParts:
    """What a file holds, inflated where it is gzipped: zlib works without the interpreter's lock.

    Args:
        file: At its beginning; closed in the end.

    Attributes:
        torn: A packed file was cut off, or is spoilt from somewhere on; what is before is given.
    """

    def __init__(self, file: BinaryIO) -> None:
        self.torn = False
        self._file = file
        self._source = self._read()
        self._ready: deque[bytes] = deque()
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._stopping = self._over = False
        self._error: OSError | MemoryError | None = None

    def __enter__(self) -> TextParts:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()
        self._file.close()

    def __iter__(self) -> Iterator[bytes]:
        """The parts.

        Raises:
            OSError, MemoryError: the file cannot be read any further.
        """
        try:
            self.start(1)
        except OSError:  # without one
            while self._ready:
                yield self._ready.popleft()
            yield from self._source
            return
        while (text := self._next()) is not None:
            yield text

    def start(self, most_parts: int) -> None:
        """Lets the thread work ahead, by so many parts at most.

        Raises:
            OSError: the system has no room for a thread.
        """
        if self._thread is None and not self._over:
            self._stopping = False
            thread = threading.Thread(target=self._work, args=(most_parts,), daemon=True)
            try:
                thread.start()
            except RuntimeError as error:
                raise OSError(errno.EAGAIN, str(error)) from None
            self._thread = thread

    def stop(self) -> None:
        """Ends the thread, so that the process may fork; what is read stays."""
        with self._changed:
            self._stopping = True
            self._changed.notify_all()
        if self._thread is not None:
            self._thread.join()
            self._thread = None

    def _next(self) -> bytes | None:
        with self._changed:
            self._changed.wait_for(lambda: self._ready or self._over)
            if self._ready:
                text = self._ready.popleft()
                self._changed.notify_all()
                return text
        if self._error is not None:
            raise self._error
        return None

    def _work(self, most_parts: int) -> None:
        while self._has_room(most_parts):
            text = None
            try:
                text = next(self._source, None)
            except (OSError, MemoryError) as error:
                self._error = error
            with self._changed:
                if text is None:
                    self._over = True
                else:
                    self._ready.append(text)
                self._changed.notify_all()

    def _has_room(self, most_parts: int) -> bool:
        """Waits for it; False where there is nothing more to do."""
        with self._changed:
            self._changed.wait_for(lambda: self._stopping or len(self._ready) < most_parts)
            return not self._stopping and not self._over

    def _read(self) -> Iterator[bytes]:
        first = self._file.read(PART_BYTES)
        if first[:2] == b"\x1f\x8b":
            yield from self._inflated(first)
            return
        while first:
            yield first
            first = self._file.read(PART_BYTES)

    def _inflated(self, packed: bytes) -> Iterator[bytes]:
        inflate = zlib.decompressobj(31)
        try:
            while packed:
                text = inflate.decompress(packed, PART_BYTES)
                if text:
                    yield text
                packed = inflate.unconsumed_tail or inflate.unused_data.lstrip(b"\0")
                if inflate.eof and packed:  # files may be joined
                    inflate = zlib.decompressobj(31)
                packed = packed or self._file.read(PACKED_BYTES)
            self.torn |= not inflate.eof
        except zlib.error:
            self.torn = True
