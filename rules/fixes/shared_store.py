"""Records that a process and its forked workers keep together. Standard library only."""

from __future__ import annotations

import fcntl
import mmap
import os
import tempfile
import threading
import weakref
from typing import Any

ALIGNMENT = 64
"""Bytes; records begin at multiples of it, so that tensors may lie in them."""
FIELDS = 3  # of an entry: key, place + 1, length
USED, HELD = -2, -1  # behind the entries: bytes and records of all processes


class SharedStore:
    """Bytes by number, written once, read by every process that is forked later.

    It lies in anonymous shared memory, which `/dev/shm` does not limit, and what does not fit there
    in a file without a name, whose blocks are reserved beforehand. The system takes both back when
    the last process ends, however it ends.

    Args:
        records: At most so many are kept.
        memory_bytes: For records. disk_bytes: For those beyond.

    Raises:
        OSError: that much cannot be had.
    """

    def __init__(self, records: int, memory_bytes: int, disk_bytes: int = 0) -> None:
        self._slots = 1 << max(2 * records, 16).bit_length()
        self._index = mmap.mmap(-1, (self._slots * FIELDS + 2) * 8)
        self._entries = memoryview(self._index).cast("q")
        self._memory = mmap.mmap(-1, max(memory_bytes, ALIGNMENT))
        self._parts = [memoryview(self._memory)[:memory_bytes]]
        self._file, path = tempfile.mkstemp()
        weakref.finalize(self, os.close, self._file)
        os.unlink(path)
        if disk_bytes:
            os.posix_fallocate(self._file, 0, disk_bytes)
            self._disk = mmap.mmap(self._file, disk_bytes)
            self._parts.append(memoryview(self._disk))
        self._most = records
        self._threads = threading.Lock()

    @property
    def held(self) -> int:
        """Records of all processes."""
        return int(self._entries[HELD])

    def get(self, key: int) -> tuple[Any, int, int] | None:
        """Buffer, offset and length of a record; None where there is none.

        Args:
            key: 0 to 2**63 - 1.
        """
        entries, slot = self._entries, self._slot(key)
        while entries[slot + 1]:
            if entries[slot] == key:
                return (*self._part(entries[slot + 1] - 1), entries[slot + 2])
            slot = (slot + FIELDS) % (self._slots * FIELDS)
        return None

    def put(self, key: int, record: bytes | bytearray) -> bool:
        """Keeps a record; False where there is no room, or another thread is writing."""
        if not self._threads.acquire(blocking=False):
            return False
        try:
            # Such a lock ends with its process: a worker that is killed blocks nobody.
            fcntl.lockf(self._file, fcntl.LOCK_EX)
            try:
                return self._put(key, record)
            finally:
                fcntl.lockf(self._file, fcntl.LOCK_UN)
        finally:
            self._threads.release()

    def _put(self, key: int, record: bytes | bytearray) -> bool:
        entries, slot = self._entries, self._slot(key)
        count = self._slots * FIELDS
        while entries[slot + 1]:
            if entries[slot] == key:
                return True
            slot = (slot + FIELDS) % count
        place = self._room(len(record)) if self.held < self._most else None
        if place is None:
            return False
        part, offset = self._part(place)
        part[offset : offset + len(record)] = record
        entries[slot], entries[slot + 2] = key, len(record)
        entries[slot + 1] = place + 1  # last: readers do not wait
        entries[HELD] += 1
        return True

    def _slot(self, key: int) -> int:
        return (key * 0x9E3779B97F4A7C15 >> 7) % self._slots * FIELDS

    def _room(self, length: int) -> int | None:
        """The place of a new record; a record lies in one part."""
        place = self._entries[USED]
        whole = -(-length // ALIGNMENT) * ALIGNMENT
        first = len(self._parts[0])
        if place < first < place + whole:
            place = first
        if place + whole > sum(len(part) for part in self._parts):
            return None
        self._entries[USED] = place + whole
        return int(place)

    def _part(self, place: int) -> tuple[Any, int]:
        first = len(self._parts[0])
        return (self._parts[0], place) if place < first else (self._parts[1], place - first)
