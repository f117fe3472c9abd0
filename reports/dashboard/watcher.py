"""The two threads behind the screen: one looks at the run folder, one has it diagnosed."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable

from textual.message import Message

from trainprof.errors import RunFolderError
from trainprof.profiler.store.status import read_status
from trainprof.profiler.store.tail import Look, RunTail
from trainprof.reports.dashboard.messages import Diagnosed, Failed, Looked
from trainprof.reports.dashboard.services import Services

LOOK_EVERY_S = 0.12
SLOW_LOOK_EVERY_S = 2.0
"""At a run that seems to be dead: one of another machine may only have been silent."""
STATUS_EVERY_S = 1.0
DIAGNOSE_EVERY_S = 3.0
DIAGNOSE_COST_SHARE = 0.02
"""Of a core, that a training then lacks: a diagnosis that costs much is asked for less often."""
FIRST_DIAGNOSIS_STEPS = 50
"""With fewer a diagnosis says that there is not enough evidence: it leaves out the first ones."""


class Watcher:
    """Looks at a run folder and posts what it finds.

    Args:
        post: Takes a message, from any thread.
    """

    def __init__(
        self, tail: RunTail, services: Services, post: Callable[[Message], object]
    ) -> None:
        self._tail = tail
        self._services = services
        self._post = post
        self._stop = threading.Event()
        self._taken = threading.Event()
        self._steps = 0
        self._over = threading.Event()
        self._threads = [
            threading.Thread(target=self._watch, name="look", daemon=True),
            threading.Thread(target=self._diagnose, name="diagnose", daemon=True),
        ]

    def start(self) -> None:
        """Starts both threads."""
        for thread in self._threads:
            thread.start()

    def stop(self) -> None:
        """Asks both to end; a diagnosis under way is not waited for."""
        self._stop.set()
        self._taken.set()

    def taken(self) -> None:
        """The screen has taken the last look in: the next may follow."""
        self._taken.set()

    def _watch(self) -> None:
        status, status_at_s = "running", 0.0
        while not self._stop.is_set():
            try:
                ended = status != "running"  # before the look: nothing is missed
                look = self._tail.look()
            except RunFolderError as error:
                self._post(Failed(str(error)))
                return
            now_s = time.monotonic()
            if look.info is not None and now_s - status_at_s > STATUS_EVERY_S:
                status, status_at_s = read_status(look.info, self._tail.folder), now_s
            self._hand_over(look, status)
            if ended and not look.behind:
                self._over.set()
                if status != "incomplete":
                    return
            pace_s = SLOW_LOOK_EVERY_S if self._over.is_set() else LOOK_EVERY_S
            self._stop.wait(0.0 if look.behind else pace_s)

    def _hand_over(self, look: Look, status: str) -> None:
        self._steps = max(
            [
                self._steps,
                *(one.steps.columns["index"][-1] + 1 for one in look.records if len(one.steps)),
            ]
        )
        self._taken.clear()
        self._post(Looked(look, status))
        self._taken.wait(5.0)

    def _diagnose(self) -> None:
        steps = -1
        while not self._stop.is_set():
            last = self._over.is_set()
            if last or (self._steps >= FIRST_DIAGNOSIS_STEPS and self._steps != steps):
                steps = self._steps
                before_s = _cpu_of_children_s()
                diagnosis = self._services.diagnose()
                cost_s = _cpu_of_children_s() - before_s
                if diagnosis is not None and not self._stop.is_set():
                    self._post(Diagnosed(diagnosis))
                if last:
                    return
                self._over.wait(max(DIAGNOSE_EVERY_S, cost_s / DIAGNOSE_COST_SHARE))
            else:
                self._over.wait(0.5)


def _cpu_of_children_s() -> float:
    """Of the processes that have ended, which is what a diagnosis runs in."""
    times = os.times()
    return times.children_user + times.children_system
