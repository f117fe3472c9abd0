"""The two threads behind the screen: one looks at the run folder, one has it diagnosed."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable

from textual.message import Message

from trainprof.errors import RunFolderError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.store.layout import BASELINE_FOLDER
from trainprof.profiler.store.status import read_status
from trainprof.profiler.store.tail import Look, RunTail
from trainprof.profiler.store.tune_progress import TuneProgress, TuneTail
from trainprof.reports.dashboard.messages import Diagnosed, Failed, Looked, Tuned
from trainprof.reports.dashboard.services import Services
from trainprof.reports.live_diagnosis import FIRST_DIAGNOSIS_STEPS, cpu_of_children_s

LOOK_EVERY_S = 0.12
SLOW_LOOK_EVERY_S = 2.0
"""At a run that seems to be dead: one of another machine may only have been silent."""
STATUS_EVERY_S = 1.0
DIAGNOSE_EVERY_S = 3.0
DIAGNOSE_COST_SHARE = 0.02
"""Of a core, that a training then lacks: a diagnosis that costs much is asked for less often."""
IDLE_S = 0.5
TUNE_COMPLETE = ("complete", "failed", "dry run")


class Watcher:
    """Looks at a run folder, or at the runs of a tune, and posts what it finds.

    Args:
        post: Takes a message, from any thread.
        tune: The tune whose present run is looked at; its unchanged run is what is diagnosed, by
            the tune itself while it goes on.
    """

    def __init__(
        self,
        tail: RunTail,
        services: Services,
        post: Callable[[Message], object],
        tune: TuneTail | None = None,
    ) -> None:
        self._tail = tail
        self._tune = tune
        self._told: TuneProgress | None = None
        self._services = services
        self._post = post
        self._stop = threading.Event()
        self._taken = threading.Event()
        self._steps = 0
        self._over = threading.Event()  # what is diagnosed has ended, as it seems
        self._is_final = False  # and nothing more can come of it
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
        status, status_at_s = "running", -STATUS_EVERY_S
        while not self._stop.is_set():
            try:
                if self._follow():
                    status, status_at_s = "running", -STATUS_EVERY_S
                ended = status != "running"  # before the look: nothing is missed
                look = self._tail.look()
            except RunFolderError as error:
                self._post(Failed(str(error)))
                return
            now_s = time.monotonic()
            if look.info is not None and now_s - status_at_s > STATUS_EVERY_S:
                status, status_at_s = read_status(look.info, self._tail.folder), now_s
            self._hand_over(look, status)
            if ended and status != "running" and not look.behind:
                self._end(status)
                if self._is_final and not self._may_go_on():
                    return
            elif status == "running" and self._is_diagnosed():
                self._over.clear()  # it was only silent
            self._stop.wait(0.0 if look.behind else self._pace_s())

    def _follow(self) -> bool:
        """Turns to the run that the tune has come to, if that is another one."""
        if self._tune is None:
            return False
        told = self._tune.look()
        if told is self._told:
            return False
        self._told = told
        turns = told.run_folder != self._tail.folder
        if turns:
            if self._is_diagnosed():  # the unchanged script has run to its end
                self._end("complete")
            self._tail = RunTail(told.run_folder)
        self._post(Tuned(told))
        return turns

    def _is_diagnosed(self) -> bool:
        """Whether the run that is looked at is the one that is diagnosed."""
        return self._tune is None or self._tail.folder == self._tune.folder / BASELINE_FOLDER

    def _may_go_on(self) -> bool:
        """Whether the tune still does, or could: one that was ended can be resumed."""
        return self._told is not None and self._told.status not in TUNE_COMPLETE

    def _end(self, status: str) -> None:
        if self._is_diagnosed():
            self._is_final = status != "incomplete"
            self._over.set()

    def _pace_s(self) -> float:
        seems_dead = self._over.is_set() and (self._told is None or self._told.over)
        return SLOW_LOOK_EVERY_S if seems_dead else LOOK_EVERY_S

    def _hand_over(self, look: Look, status: str) -> None:
        if self._is_diagnosed():
            ends = (one.steps.columns["index"][-1] + 1 for one in look.records if len(one.steps))
            self._steps = max([self._steps, *ends])
        self._taken.clear()
        self._post(Looked(look, status))
        self._taken.wait(5.0)

    def _diagnose(self) -> None:
        diagnosed: tuple[int, bool, bool] | None = None
        while not self._stop.is_set():
            final, over, measures = self._is_final, self._over.is_set(), self._measures()
            now, wait_s = (self._steps, over, measures), IDLE_S
            if now != diagnosed and measures:
                diagnosed = now if over and self._show(self._services.recorded()) else None
            elif now != diagnosed and (over or self._steps >= FIRST_DIAGNOSIS_STEPS):
                wait_s = self._diagnose_anew()
                diagnosed = now
                if final:
                    return
            (self._stop if over else self._over).wait(wait_s)

    def _measures(self) -> bool:
        """Whether a trial may be measured now, which a diagnosis beside it would disturb."""
        return self._tune is not None and (self._told is None or not self._told.over)

    def _diagnose_anew(self) -> float:
        """Shows a new diagnosis; gives the seconds to wait until the next."""
        before_s = cpu_of_children_s()
        self._show(self._services.diagnose())
        cost_s = cpu_of_children_s() - before_s
        return max(DIAGNOSE_EVERY_S, cost_s / DIAGNOSE_COST_SHARE)

    def _show(self, diagnosis: Diagnosis | None) -> bool:
        """Posts a diagnosis, if there is one."""
        if diagnosis is not None and not self._stop.is_set():
            self._post(Diagnosed(diagnosis))
        return diagnosis is not None
