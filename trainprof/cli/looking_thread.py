"""A thread that looks at a run folder while the training goes on, at a price that is bounded."""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from contextlib import suppress

from trainprof.errors import TrainprofError

COST_SHARE_MAX = 0.02
"""Of one core; looks that cost more are taken more seldom."""

NICENESS = 10
"""Of the thread, and of processes that are started from it: the training comes first."""


def step_back() -> None:
    """Lowers the priority of the calling thread (where threads have none, of its process).

    It is never raised, which only root may: all of it may have been started at a lower one.
    """
    with suppress(OSError):  # a sandbox refuses it
        niceness = max(os.getpriority(os.PRIO_PROCESS, 0), NICENESS)
        os.setpriority(os.PRIO_PROCESS, 0, niceness)


class LookingThread:
    """Takes looks until it is stopped or one fails.

    Args:
        name: Of the thread.
        look: Takes one look; gives whether there was more than it took.
        interval_s: Between two looks.
        cpu_s: CPU time of the calling thread, in s; tests replace it.

    Attributes:
        failure: What ended it; None while nothing has.
    """

    def __init__(
        self,
        name: str,
        look: Callable[[], bool],
        interval_s: float,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self.failure: OSError | TrainprofError | None = None
        self._look = look
        self._interval_s = interval_s
        self._cpu_s = cpu_s
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name=name, daemon=True)

    def start(self) -> None:
        """Starts it."""
        self._thread.start()

    def stop(self) -> None:
        """Asks it to end; a look that is under way is not waited for."""
        self._stopping.set()

    def ends_within(self, wait_s: float) -> bool:
        """Whether it has ended, or was never started, after so long at most."""
        if self._thread.is_alive():
            self._thread.join(wait_s)
        return not self._thread.is_alive()

    def look(self) -> float:
        """Takes one look; gives the seconds to wait until the next."""
        before_s = self._cpu_s()
        behind = self._look()
        wait_s = (self._cpu_s() - before_s) / COST_SHARE_MAX
        return wait_s if behind else max(self._interval_s, wait_s)

    def _run(self) -> None:
        step_back()
        wait_s = self._interval_s
        try:
            while not self._stopping.wait(wait_s):
                wait_s = self.look()
        except (OSError, TrainprofError) as error:
            self.failure = error
