"""Writes snapshots of checkpoints in the order in which they come, in a thread of its own.

Standard library only. The thread lives while there is something to write, so that a fork meets it
only if it must, and then waits for it.
"""

from __future__ import annotations

import threading
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, eq=False)
class Snapshot:
    """All that a checkpoint's file will hold; nothing in it is shared with the training.

    Attributes:
        path: Of the file, absolute, without links. records: Arguments of torch's zip writer.
        bytes: In all of them.
    """

    path: str
    records: tuple[tuple[str, Any, int], ...]
    bytes: int


class Buffers:
    """Memory of written snapshots, for the next ones: fresh memory costs more than the copy.

    Args:
        make: Makes a storage of so many bytes.
    """

    def __init__(self, make: Callable[[int], Any]) -> None:
        self._make = make
        self._free: deque[Any] = deque()
        self._free_bytes = self._largest = 0
        self._lock = threading.Lock()

    def copy(self, storage: Any) -> Any:
        """A copy in memory that nobody else uses."""
        copied = self._take(storage.nbytes())
        copied.copy_(storage)
        return copied

    def _take(self, size: int) -> Any:
        with self._lock:
            for place, one in enumerate(self._free):
                if one.nbytes() == size:
                    del self._free[place]
                    self._free_bytes -= size
                    return one
        return self._make(size)

    def give_back(self, snapshot: Snapshot) -> None:
        """Its memory may be used again; at most that of the two largest is kept."""
        with self._lock:
            self._largest = max(self._largest, snapshot.bytes)
            for _, data, size in snapshot.records:
                if size and not isinstance(data, (bytes, str)):
                    self._free.append(data)
                    self._free_bytes += size
            while self._free_bytes > 2 * self._largest:
                self._free_bytes -= self._free.popleft().nbytes()

    def clear(self) -> None:
        """Frees them."""
        with self._lock:
            self._free.clear()
            self._free_bytes = 0


class BackgroundWriter:
    """The queue and its thread.

    Args:
        write: Writes one snapshot; raises OSError, RuntimeError or MemoryError where it cannot.

    Attributes:
        written: Snapshots that are on the disk.
    """

    def __init__(self, write: Callable[[Snapshot], None]) -> None:
        self._write = write
        self._changed = threading.Condition()
        self._waiting: deque[Snapshot] = deque()  # the first is being written
        self._thread: threading.Thread | None = None
        self._latest: threading.Thread | None = None
        self._failures: list[tuple[str, BaseException]] = []
        self.written = 0

    @property
    def busy(self) -> bool:
        """Whether anything is still to be written."""
        return bool(self._waiting)

    @property
    def bytes(self) -> int:
        """Of all that is still to be written."""
        return sum(snapshot.bytes for snapshot in list(self._waiting))

    def holds(self, path: str) -> bool:
        """Whether that file is still to be written."""
        return path in self.paths()

    def paths(self) -> list[str]:
        """Of all files that are still to be written."""
        return [snapshot.path for snapshot in list(self._waiting)]

    def is_current_thread(self) -> bool:
        """Whether the caller is the writing thread itself."""
        return self._thread is not None and threading.get_ident() == self._thread.ident

    def drop_waiting(self, path: str) -> Snapshot | None:
        """Takes back what waits for that file, which is to be written over; not what is begun."""
        with self._changed:
            for snapshot in list(self._waiting)[1:]:
                if snapshot.path == path:
                    self._waiting.remove(snapshot)
                    return snapshot
        return None

    def put(self, snapshot: Snapshot) -> None:
        """Queues it.

        Raises:
            RuntimeError: the system gives no further thread.
        """
        with self._changed:
            if self._thread is None:
                thread = threading.Thread(target=self._work, name="checkpoint writer")
                thread.start()  # it waits for the lock
                self._thread = self._latest = thread
            self._waiting.append(snapshot)

    def wait(self) -> None:
        """Until all is written, or has failed."""
        with self._changed:
            while self._waiting:
                self._changed.wait()

    def end_thread(self) -> None:
        """Until the thread that has written the last of it is gone too."""
        thread = self._latest
        if thread is not None and thread is not threading.current_thread():
            thread.join()

    def take_failure(self) -> tuple[str, BaseException] | None:
        """The oldest file that could not be written, and why; each is given once."""
        return self._failures.pop(0) if self._failures else None

    def _work(self) -> None:
        while True:
            with self._changed:
                if not self._waiting:
                    self._thread = None
                    return
                snapshot = self._waiting[0]
            try:
                self._write(snapshot)
                self.written += 1
            except (OSError, RuntimeError, MemoryError) as error:
                self._failures.append((snapshot.path, error))
            finally:
                with self._changed:
                    self._waiting.popleft()
                    self._changed.notify_all()
