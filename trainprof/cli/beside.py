"""Work in a process of its own, beside this one: a fork that hands its result back.

Nothing depends on it: what does not come back is worked out here.
"""

from __future__ import annotations

import os
import pickle
import signal
import struct
from collections.abc import Callable
from typing import Generic, TypeVar

Result = TypeVar("Result")
_SIZE = struct.Struct("=Q")


class Beside(Generic[Result]):
    """One piece of work that has begun.

    Args:
        work: What to do. Its result is pickled; what it raises ends its process without a word.
    """

    def __init__(self, work: Callable[[], Result]) -> None:
        self._work = work
        self._pipe, into = os.pipe()
        self._process = os.fork()
        if self._process == 0:
            _work_and_leave(work, into)
        os.close(into)

    def result(self) -> Result:
        """What came of it; waits for it.

        Raises: as the work, where the process was lost and it is done here.
        """
        with open(self._pipe, "rb", closefd=False) as pipe:
            size, told = pipe.read(_SIZE.size), pipe.read()
        if len(size) < _SIZE.size or _SIZE.unpack(size)[0] != len(told):
            return self._work()
        found: Result = pickle.loads(told)
        return found

    def close(self) -> None:
        """Ends the process, where it still works."""
        os.kill(self._process, signal.SIGKILL)
        os.waitpid(self._process, 0)
        os.close(self._pipe)


def _work_and_leave(work: Callable[[], object], into: int) -> None:
    """The process of its own: it leaves without a word, whatever happens."""
    try:
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.signal(signal.SIGTERM, signal.SIG_DFL)
        told = pickle.dumps(work(), protocol=5)
        with open(into, "wb") as pipe:
            pipe.write(_SIZE.pack(len(told)))
            pipe.write(told)
    finally:
        os._exit(0)


def beside(work: Callable[[], Result]) -> Callable[[], Result]:
    """Begins the work in a process of its own; gives what waits for its result."""
    begun = Beside(work)

    def result() -> Result:
        try:
            return begun.result()
        finally:
            begun.close()

    return result
