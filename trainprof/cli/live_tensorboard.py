"""A run in TensorBoard while it goes on: a thread of trainprof's own process writes what is new."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path

from trainprof.cli.looking_thread import LookingThread
from trainprof.cli.tensorboard_folder import folder_of
from trainprof.errors import TrainprofError, UsageError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.tail import Look, RunTail
from trainprof.reports.tensorboard.places import Places
from trainprof.reports.tensorboard.run_events import RunEvents, write_run

INTERVAL_S = 1.0
"""Between two looks at the run folder; TensorBoard itself looks every five seconds."""

STOP_WAIT_S = 5.0
"""For a look that is under way at the end."""


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
        self._thread = LookingThread("trainprof-board", self._look, INTERVAL_S, cpu_s)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the thread that the training has ended; the diagnosis need not wait for it."""
        self._thread.stop()

    def look(self) -> float:
        """Writes what is new; gives the seconds to wait until the next look."""
        return self._thread.look()

    def finish(self, diagnosis: Diagnosis) -> None:
        """Writes the rest and what the diagnosis says; afterwards the folder is as exported."""
        if not self._thread.ends_within(STOP_WAIT_S):  # it still writes: nothing is closed
            return self._say_unwritten("it does not take what is written")
        try:
            if self._thread.failure is not None:
                raise self._thread.failure
            self._finish(diagnosis)
        except (OSError, TrainprofError) as error:
            with suppress(OSError):
                self._events.close()
            return self._say_unwritten(getattr(error, "strerror", None) or str(error))
        return None

    def _finish(self, diagnosis: Diagnosis) -> None:
        for look in self._tail.rest():
            self._add(look)
        run = read_run(self._run_folder)
        places = Places()
        for session in run.sessions:
            for trainer in session.trainers:
                places.place(trainer.folder, trainer.info)
        if places.by_process == self._events.places.by_process:
            self._events.finish(diagnosis)
        else:  # a rank was not known when its curves began
            self._events.close()
            write_run(self._folder, run, diagnosis)

    def _say_unwritten(self, reason: str) -> None:
        print(
            f"trainprof: {self._folder} could not be written to its end ({reason}); "
            f"`trainprof export {self._run_folder} --to tensorboard --out {self._board}` writes it "
            "anew.",
            file=sys.stderr,
        )

    def _look(self) -> bool:
        look = self._tail.look()
        self._add(look)
        self._events.flush()
        return look.behind

    def _add(self, look: Look) -> None:
        for one in sorted(look.records, key=lambda records: records.info.started_ns):
            self._events.add(one.folder, one.info, one.steps, one.losses)
        self._events.add_samples(look.samples)
