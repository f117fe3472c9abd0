"""A run in TensorBoard while it goes on: a thread of trainprof's own process writes what is new."""

from __future__ import annotations

import os
import sys
import threading
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainprof.cli.tensorboard_folder import folder_of
from trainprof.errors import TrainprofError, UsageError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.tail import NEW_PROCESSES_EVERY, Look, NewRecords, RunTail
from trainprof.reports.tensorboard.places import Places
from trainprof.reports.tensorboard.run_events import RunEvents, write_run

INTERVAL_S = 1.0
"""Between two looks at the run folder; TensorBoard itself looks every five seconds."""

COST_SHARE_MAX = 0.02
"""Of one core; looks that cost more are taken more seldom."""

NICENESS = 10
"""Of the thread: the training comes first."""

STOP_WAIT_S = 5.0


def check_folder(board: Path) -> None:
    """Finds out before a training starts whether its curves can be written.

    Raises:
        UsageError: the folder cannot be made or written.
    """
    try:
        board.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise UsageError(
            f"{board} cannot be written ({error.strerror}); name another with --tensorboard DIR."
        ) from None
    if not os.access(board, os.W_OK):
        raise UsageError(f"{board} may not be written; name another with --tensorboard DIR.")


class LiveTensorBoard:
    """Writes one run for TensorBoard until it is finished.

    Args:
        run_folder: Where the records are written. board: TensorBoard's folder.
        info: Of the run, for its clock. cpu_s: CPU time of the calling thread; tests replace it.

    Raises:
        UsageError: the folder cannot be written.
    """

    def __init__(
        self,
        run_folder: Path,
        board: Path,
        info: RunInfo,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._run_folder = run_folder
        self._board = board
        self._folder = folder_of(board, run_folder)
        self._events = RunEvents(self._folder, info)
        self._tail = RunTail(run_folder)
        self._cpu_s = cpu_s
        self._failure: OSError | TrainprofError | None = None
        self._stopping = threading.Event()
        self._thread = threading.Thread(target=self._run, name="trainprof-board", daemon=True)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Ends the thread: the training has ended."""
        self._stopping.set()
        self._thread.join(STOP_WAIT_S)

    def look(self) -> float:
        """Writes what is new; gives the seconds to wait until the next look."""
        before_s = self._cpu_s()
        behind = self._add(self._tail.look())
        self._events.flush()
        cost_s = self._cpu_s() - before_s
        return cost_s / COST_SHARE_MAX if behind else max(INTERVAL_S, cost_s / COST_SHARE_MAX)

    def finish(self, diagnosis: Diagnosis) -> None:
        """Writes the rest and what the diagnosis says; afterwards the folder is as exported."""
        if self._thread.is_alive():
            return self._say_unwritten("it does not take what is written")
        try:
            if self._failure is not None:
                raise self._failure
            self._finish(diagnosis)
        except (OSError, TrainprofError) as error:
            return self._say_unwritten(getattr(error, "strerror", None) or str(error))
        return None

    def _finish(self, diagnosis: Diagnosis) -> None:
        looks = NEW_PROCESSES_EVERY  # among so many one finds the processes that are new
        while looks > 0:
            looks -= not self._add(self._tail.look())
        run = read_run(self._run_folder)
        places = Places()
        for session in run.sessions:
            for trainer in session.trainers:
                if len(trainer.steps):
                    places.place(trainer.folder, trainer.info)
        if places.by_process == self._events.places.by_process:
            self._events.finish(diagnosis)
        else:  # a rank was not known when its curves began
            self._events.close()
            write_run(self._folder, run, diagnosis)

    def _say_unwritten(self, reason: str) -> None:
        with suppress(OSError):
            self._events.close()
        print(
            f"trainprof: {self._folder} could not be written to its end ({reason}); "
            f"`trainprof export {self._run_folder} --to tensorboard` writes it anew.",
            file=sys.stderr,
        )

    def _run(self) -> None:
        os.setpriority(os.PRIO_PROCESS, threading.get_native_id(), NICENESS)
        wait_s = INTERVAL_S
        try:
            while not self._stopping.wait(wait_s):
                wait_s = self.look()
        except (OSError, TrainprofError) as error:
            self._failure = error

    def _add(self, look: Look) -> bool:
        """Whether there is more than this look took."""
        for one in sorted(look.records, key=_began_ns):
            self._events.add(one.folder, one.info, one.steps, one.losses)
        self._events.add_samples(look.samples)
        return look.behind


def _began_ns(records: NewRecords) -> int:
    """When the first of its new steps began."""
    return records.steps.columns["start_ns"][0] if len(records.steps) else 0
