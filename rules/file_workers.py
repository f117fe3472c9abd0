"""Work on many files in processes of this machine: each holds one file at a time."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable, Sequence
from contextlib import suppress
from multiprocessing import get_context
from multiprocessing.connection import Connection, wait
from typing import Any, Generic, TypeVar

Item = TypeVar("Item")
Result = TypeVar("Result")

DYING_S = 5.0
"""Between a process's last word and its end."""


def usable_cores() -> int:
    """That this process may use."""
    if hasattr(os, "sched_getaffinity"):  # macOS has none
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def each_in_a_process(
    work: Callable[[Item], Result],
    items: Sequence[Item],
    jobs: int,
    lost: Callable[[Item, str], Result],
    told: Callable[[int], None] = lambda done: None,
) -> list[Result]:
    """What `work` makes of each item, in their order.

    A process that dies, as where memory runs out, costs the item that it held and no other. None is
    left behind, however this ends.

    Args:
        work: A function of a module; raises nothing.
        items: What it is called with. They and the results have to be picklable.
        jobs: Processes at a time.
        lost: The result of an item whose process died, and of what.
        told: Called with the number of items that are done, after each.
    """
    pool = _Pool(work, items, lost)
    try:
        pool.start(min(jobs, len(items)))
        while pool.busy:
            pool.collect()
            told(len(pool.results))
    finally:
        pool.stop()
    return [pool.results[place] for place in range(len(items))]


class _Worker:
    def __init__(self, work: Callable[[Any], Any]) -> None:
        context = get_context("forkserver")  # which has imported what they need, once
        context.set_forkserver_preload([work.__module__])
        self.pipe, theirs = context.Pipe()
        self.process = context.Process(target=_serve, args=(theirs, work), daemon=True)
        self.process.start()
        theirs.close()

    def stop(self) -> int | None:
        """Its exit status."""
        self.process.kill()
        self.process.join()
        self.pipe.close()
        status: int | None = self.process.exitcode
        return status


class _Pool(Generic[Item, Result]):
    def __init__(
        self,
        work: Callable[[Item], Result],
        items: Sequence[Item],
        lost: Callable[[Item, str], Result],
    ) -> None:
        self._work, self._items, self._lost = work, items, lost
        self._next = 0
        self._idle: list[_Worker] = []
        self.busy: dict[Connection, tuple[_Worker, int]] = {}
        self.results: dict[int, Result] = {}

    def start(self, count: int) -> None:
        for _ in range(count):
            self._employ(_Worker(self._work))

    def _employ(self, worker: _Worker) -> None:
        """Hands it the next item; a worker that cannot take it has died before its time."""
        if self._next == len(self._items):
            self._idle.append(worker)
            return
        place, self._next = self._next, self._next + 1
        self.busy[worker.pipe] = worker, place
        with suppress(BrokenPipeError):
            worker.pipe.send(self._items[place])

    def collect(self) -> None:
        """Waits until one is done, or has died."""
        for pipe in wait(list(self.busy)):
            worker, place = self.busy.pop(pipe)  # type: ignore[call-overload]
            try:
                self.results[place] = worker.pipe.recv()
            except (EOFError, ConnectionResetError):
                worker.process.join(DYING_S)
                self.results[place] = self._lost(self._items[place], _ending(worker.stop()))
                worker = _Worker(self._work)
            self._employ(worker)

    def stop(self) -> None:
        for worker in (*self._idle, *(worker for worker, _ in self.busy.values())):
            worker.stop()


def _serve(pipe: Connection, work: Callable[[Any], Any]) -> None:
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the one that started it ends it
    with suppress(EOFError, BrokenPipeError):
        while True:
            pipe.send(work(pipe.recv()))


def _ending(status: int | None) -> str:
    if status == -signal.SIGKILL:
        return "the process that read it was killed, as where memory runs out"
    return f"the process that read it ended with status {status}"
