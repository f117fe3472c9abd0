"""One append-only file of JSON lines, written from inside the user's process.

Standard library only. One `os.write` per flush: what was written survives a SIGKILL.
"""

from __future__ import annotations

import json
import os

_LOSS_NOTE_BYTES = 120
"""Blank bytes at the end of a header, where a full disk still lets a loss be noted in place."""

_KEPT_BYTES = 1_000_000
"""What could not be written is kept for the next flush up to this size."""


class AppendedFile:
    """One append-only file of lines; opened at its first write.

    Args:
        header: What the first line says.
        keeps: Lines that could not be written wait for the next write (up to 1 MB), instead of
            being dropped.

    Attributes:
        lines: What the next `write` appends; any thread may add to it.
    """

    def __init__(self, path: str, header: dict[str, object], keeps: bool) -> None:
        self.lines: list[str] = []
        self._path = path
        self._header = header
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
