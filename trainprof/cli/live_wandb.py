"""`trainprof run --wandb`: the run at Weights & Biases while it goes on.

A thread of trainprof's own process; nothing of it runs inside the training. A run of its own is
opened only where the script opens none: else everything is added to the script's run, as soon as
wandb lets a second process write to it (at the end, or at once in wandb's `shared` mode).
"""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from pathlib import Path

from trainprof.cli.looking_thread import LookingThread
from trainprof.errors import TrainprofError
from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.model.run import Run
from trainprof.profiler.store.reader import read_run
from trainprof.profiler.store.tail import Look, NewRecords, RunTail
from trainprof.reports.run_clock import RunClock
from trainprof.reports.text import printable
from trainprof.reports.wandb_rows import (
    ROWS_MAX,
    WALL_TIME,
    Row,
    ScriptRun,
    config_of,
    mean_losses,
    sample_row,
    script_run_of,
    step_rows,
)
from trainprof.reports.wandb_run import (
    Place,
    WandbRun,
    export_run,
    files_of,
    joined_run,
    named_run,
    open_run,
)

INTERVAL_S = 2.0
"""Between two looks at the run folder."""
ROWS_A_LOOK = 10
"""Of steps; a row is then the mean of several."""
GRACE_S = 10.0
"""After the first step a script that opens a W&B run has opened it."""
STOP_WAIT_S = 30.0
"""For a look that is under way at the end: on a busy machine the thread is served last."""
PATIENCE_S = 120.0
"""For what is still to be sent when the training has ended."""


class LiveWandb:
    """Writes one run to W&B until it is finished.

    Args:
        folder: Where the records are written.
        info: Of the run, for its name and its clock.
        clock: Monotonic seconds; tests replace it.
        cpu_s: CPU time of the calling thread, in s; tests replace it.
    """

    def __init__(
        self,
        folder: Path,
        info: RunInfo,
        clock: Callable[[], float] = time.monotonic,
        cpu_s: Callable[[], float] = time.thread_time,
    ) -> None:
        self._folder = folder
        self._info = info
        self._tail = RunTail(folder)
        self._clock = clock
        self._waiting: list[Row] = []
        self._trainer: str | None = None
        self._first_step_s: float | None = None
        self._script_run: ScriptRun | None = named_run(os.environ)
        self._written: WandbRun | None = None
        self._opened = ExitStack()
        self._thread = LookingThread("trainprof-wandb", self._look, INTERVAL_S, cpu_s)

    def start(self) -> None:
        """Starts the thread."""
        self._thread.start()

    def stop(self) -> None:
        """Tells the thread that the training has ended; the diagnosis need not wait for it."""
        self._thread.stop()

    def look(self) -> float:
        """Writes what is new; gives the seconds to wait until the next look.

        Raises:
            TrainprofError: W&B cannot be written.
        """
        return self._thread.look()

    def finish(self, diagnosis: Diagnosis) -> None:
        """Writes the rest and what the diagnosis says, and tells where it is."""
        try:
            if not self._thread.ends_within(STOP_WAIT_S):
                raise TrainprofError("W&B does not answer.")
            if self._thread.failure is not None:
                raise self._thread.failure
            written = self._finish(read_run(self._folder), diagnosis)
        except (OSError, TrainprofError) as error:
            print(
                f"trainprof: {error} `trainprof export {self._folder} --to wandb` writes it anew.",
                file=sys.stderr,
            )
            return
        where = written.url or f"{written.folder}; `wandb sync` sends it"
        print(f"trainprof: the run at W&B: {where}.", file=sys.stderr)

    def _finish(self, run: Run, diagnosis: Diagnosis) -> WandbRun:
        if self._written is None:
            return export_run(run, diagnosis, self._place(joined_run(run)))
        with self._opened:
            for look in self._tail.rest():
                self._add(look)
            self._written.log(self._waiting)
            self._written.configure(config_of(run, diagnosis))
            self._written.conclude(diagnosis, files_of(self._folder))
        return self._written

    def _look(self) -> bool:
        look = self._tail.look()
        self._add(look)
        if self._written is None:
            self._open()
        if self._written is not None:
            self._written.log(self._waiting)
            self._waiting.clear()
        return look.behind

    def _open(self) -> None:
        """Opens a run, if it is known by now which one."""
        joined = self._script_run
        if joined is None:
            if self._first_step_s is None or self._clock() < self._first_step_s + GRACE_S:
                return
            if self._script_has_opened_one():  # it is told once the script logs to it
                return
        elif joined.mode != "shared":  # nobody else can write to it while the script does
            self._waiting.clear()
            return
        config = {"command": [printable(word) for word in self._info.argv]}
        self._written = self._opened.enter_context(open_run(self._place(joined), config))

    def _place(self, joined: ScriptRun | None) -> Place:
        return Place(self._info.name, joined=joined, patience_s=PATIENCE_S)

    def _script_has_opened_one(self) -> bool:
        """Whether wandb has made a folder for a run in the usual place since this run began."""
        base = Path(os.environ.get("WANDB_DIR") or self._info.cwd, "wandb")
        try:
            return any(
                path.stat().st_mtime >= self._info.started_unix_s for path in base.glob("*run-*-*")
            )
        except OSError:
            return False

    def _add(self, look: Look) -> None:
        rows: list[Row] = [sample_row(one, self._info) for one in look.samples]
        for one in look.records:
            for event in one.events:
                found = script_run_of(event.kind, event.data)
                self._script_run = self._script_run or found
            rows += self._steps(one)
        self._waiting += sorted(rows, key=lambda row: row[WALL_TIME])
        del self._waiting[:-ROWS_MAX]  # where no run is opened for long

    def _steps(self, records: NewRecords) -> Iterator[Row]:
        """Rows of the steps of the first rank that trains."""
        if not len(records.steps) or records.info.rank not in (None, 0):
            return
        if self._first_step_s is None:
            self._first_step_s, self._trainer = self._clock(), records.folder
        if records.folder == self._trainer:
            each = -(-len(records.steps) // ROWS_A_LOOK)
            shift_ns = RunClock(self._info).of(records.info)
            losses = mean_losses(iter(records.losses))
            yield from step_rows(records.steps, shift_ns, self._info, each, losses)
