"""Starts trials: `trainprof run` in a fresh process, with nothing left behind."""

from __future__ import annotations

import shutil
import signal
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Protocol

from trainprof.errors import RunFolderError
from trainprof.profiler.model.plan import Plan, plan_to_json
from trainprof.profiler.store.reader import read_run
from trainprof.rules.experiments.preflight import free_memory_bytes
from trainprof.rules.experiments.trial import Trial, read_trial
from trainprof.rules.fixes.registry import fix_named

HANGS_AFTER = 5.0
"""Times as long as the baseline's slowest trial."""
LEAST_PATIENCE_S = 60.0
SLOW_START_S = 600.0
"""More for trials whose start takes long: compiling a large model takes minutes."""
FIRST_PATIENCE_S = 600.0
"""For the first trial, of which nothing is known."""
LEAST_FREE_BYTES = 1 << 16
"""On the disk of a trial's output: with less, nothing printed says nothing of the script."""
KILLED = (128 + signal.SIGKILL, -signal.SIGKILL)
NICE_OPTIONS = ("--quiet", "--no-probe", "--no-stacks", "--trace", "off")
"""What only a diagnosis needs is left out of trials."""


class Place(Protocol):
    """Where commands run without leaving a trace: here, or on a node of a cluster."""

    shared: Path

    def run(
        self,
        command: Sequence[str],
        name: str,
        output: Path,
        patience_s: float,
        environment: Mapping[str, str] = ...,
    ) -> int | None:
        """The exit status; None where it took too long."""


class ProcessRunner:
    """Runs the user's command under a plan and reads the run back.

    Args:
        command: As typed.
        folder: Of the tune; trials get folders below it.
        workplace: For what trials write meanwhile.
        warm_up: Steps left out of each trial.
        needed_bytes: Of memory, without which no trial starts; None where unknown.
        longest_s: Seconds that the unchanged script took; 0 where unknown.
        starts: Is told the run folder, the steps, the label and the plan of each trial.
    """

    def __init__(
        self,
        command: Sequence[str],
        folder: Path,
        workplace: Place,
        warm_up: int,
        *,
        needed_bytes: int | None = None,
        longest_s: float = 0.0,
        starts: Callable[[Path, int, str, Plan], None] = lambda *_: None,
    ) -> None:
        self._command = tuple(command)
        self._folder = folder
        self._workplace = workplace
        self._warm_up = warm_up
        self._count = len(list((folder / "trials").glob("*")))  # of a tune that goes on
        self._needed_bytes = needed_bytes
        self._longest_s = longest_s
        self._starts = starts

    def run(self, plan: Plan, steps: int, label: str, seed_shift: int = 0) -> Trial:
        """One trial; a script that hangs is ended, and the trial then counts as failed."""
        no_room = self._no_room()
        if no_room is not None:
            return Trial(None, problem=no_room)
        self._count += 1
        name = f"{self._count:03d}-{label.replace(' + ', '-')}"
        place = self._folder / "trials" / name
        place.mkdir(parents=True, exist_ok=True)
        out = place / "run"
        plan_file = place / "plan.json"
        plan_file.write_text(plan_to_json(plan), encoding="utf-8")
        options = ["--out", str(out), "--steps", str(steps), *NICE_OPTIONS]
        if plan.applications:
            options += ["--plan", str(plan_file)]
        command = [sys.executable, "-m", "trainprof", "run", *options, "--", *self._command]
        self._starts(out, steps, label, plan)
        problem = self._start(command, place, seed_shift, slow_start=_starts_slowly(plan))
        if problem is not None:
            return Trial(None, problem=problem, folder=str(out))
        try:
            return read_trial(read_run(out), steps, self._warm_up)
        except RunFolderError as error:
            return Trial(None, problem=str(error), folder=str(out))

    def _start(
        self, command: list[str], place: Path, seed_shift: int, *, slow_start: bool
    ) -> str | None:
        """Runs it to its end; gives why it does not count, if so."""
        environment = {
            "TORCHINDUCTOR_CACHE_DIR": str(self._workplace.shared),  # the first one compiles
            "TRAINPROF_TRIAL": str(seed_shift),
        }
        patience_s = max(HANGS_AFTER * self._longest_s, LEAST_PATIENCE_S)
        if not self._longest_s:
            patience_s = FIRST_PATIENCE_S
        patience_s += SLOW_START_S if slow_start else 0.0
        started = time.monotonic()
        output = place / "output.txt"
        name = f"{self._count:03d}"  # paths of sockets must be short
        status = self._workplace.run(command, name, output, patience_s, environment)
        if status is None:
            return f"it hung: no end after {patience_s:.0f} s"
        self._longest_s = max(self._longest_s, time.monotonic() - started)
        if status:
            return f"it ended with {how_it_ended(status, output)}"
        return None

    def _no_room(self) -> str | None:
        """Why a trial would not fit into the memory, if so."""
        free = free_memory_bytes()
        if self._needed_bytes is None or self._needed_bytes <= free:
            return None
        return (
            f"no trial was started: the script holds {self._needed_bytes / 1e9:.1f} GB of memory, "
            f"and {free / 1e9:.1f} GB are free"
        )


def how_it_ended(status: int, output: Path) -> str:
    """A failed run in words: its status, and the last line that it printed."""
    if status in KILLED:
        return f"exit status {status}: it was killed, as the system does where memory runs out"
    return f"exit status {status}: {_last_line(output)}"


def _starts_slowly(plan: Plan) -> bool:
    return any(fix_named(one.fix).pays_off_later for one in plan.applications)


def _last_line(path: Path) -> str:
    lines = path.read_text(encoding="utf-8", errors="replace").strip().splitlines()
    if lines:
        return lines[-1][:200]
    full = shutil.disk_usage(path.parent).free < LEAST_FREE_BYTES
    return f"the disk of {path.parent} is full" if full else "it printed nothing"
