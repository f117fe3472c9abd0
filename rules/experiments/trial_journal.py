"""What the trials of a tune found, written down as they end, so that it can go on after any end.

A text file, one JSON object a line: first what the tune is about, then a trial a line, each forced
to the disk before the next trial starts. A torn last line (kill -9, a full disk) is dropped.
"""

from __future__ import annotations

import json
import os
import time
from collections import defaultdict, deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import msgspec

from trainprof.profiler.model.plan import Application, Plan
from trainprof.rules.experiments.trial import Trial

JOURNAL_FILE = "trials.jsonl"
JOURNAL_FORMAT = 1


class JournalError(Exception):
    """There is nothing to go on with; the message says why."""


@dataclass(frozen=True, slots=True)
class Options:
    """What a tune was asked for, as on its command line.

    Attributes:
        allow: The most that a fix may change. asked: Fixes to try in place of what is advised.
        steps: Of a trial. run_steps: Of the training in daily use, where it is long.
        engine: Where trials run, "local" or "ray".
    """

    allow: str = "numerics"
    asked: tuple[Application, ...] = ()
    steps: int | None = None
    run_steps: int | None = None
    engine: str = "local"


@dataclass(frozen=True, slots=True)
class About:
    """What a tune is about: what was measured holds as long as this is the same.

    Attributes:
        command: With its secrets masked. secrets: Whether it has any; it is then typed again.
        folder: The working directory. options: Of the tune.
        sources: SHA-256 of the script and of the files that fixes name, by absolute path.
        machine: Its class, see `machine_class`.
    """

    command: tuple[str, ...]
    secrets: bool
    folder: str
    options: Options
    sources: Mapping[str, str]
    machine: str


class Journal:
    """The file of one tune."""

    def __init__(self, folder: Path) -> None:
        self._path = folder / JOURNAL_FILE

    def begin(self, about: About) -> None:
        """The first line; what the file held is gone."""
        self._path.unlink(missing_ok=True)
        append_line(self._path, json.dumps({"format": JOURNAL_FORMAT, **asdict(about)}).encode())

    def add(self, key: str, trial: Trial) -> None:
        """One trial."""
        append_line(self._path, json.dumps({"key": key, "trial": asdict(trial)}).encode())

    def read(self) -> tuple[About, list[tuple[str, Trial]]]:
        """What the tune is about, and its trials in order.

        Raises:
            JournalError: there is no journal, or its first line cannot be read.
        """
        try:
            lines = self._path.read_bytes().splitlines()
        except OSError:
            lines = []
        if not lines:
            raise JournalError("it had measured nothing")
        try:
            first = json.loads(lines[0])
            if first.get("format") != JOURNAL_FORMAT:
                raise JournalError(f"its journal has format {first.get('format')!r}")
            about = msgspec.convert(first, About)
        except (ValueError, AttributeError):
            raise JournalError("its journal cannot be read") from None
        return about, [entry for line in lines[1:] if (entry := _entry(line)) is not None]


def append_line(path: Path, line: bytes, *, forced: bool = True) -> None:
    """Adds a line, behind a torn one if need be; `forced` to the disk before it returns.

    Raises:
        OSError: it cannot be written.
    """
    data = line + b"\n"
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC)
    try:
        if _torn(path):
            data = b"\n" + data
        os.write(descriptor, data)
        if forced:
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _torn(path: Path) -> bool:
    """Whether the last line has no end."""
    with path.open("rb") as file:
        size = file.seek(0, os.SEEK_END)
        if not size:
            return False
        file.seek(size - 1)
        return file.read(1) != b"\n"


def _entry(line: bytes) -> tuple[str, Trial] | None:
    try:
        data = json.loads(line)
        return str(data["key"]), msgspec.convert(data["trial"], Trial, str_keys=True)
    except (ValueError, KeyError, TypeError):
        return None


class ResumedRunner:
    """Gives the trials of an earlier tune first, then runs new ones and writes them down.

    Trials that failed are run again: what they failed of may be gone.

    Args:
        runner: Runs new ones. journal: Takes them.
        earlier: Trials that are there already. clock: Monotonic seconds.

    Attributes:
        problem: Why new trials are not written down any more, if so.
    """

    def __init__(
        self,
        runner: Any,
        journal: Journal,
        earlier: Sequence[tuple[str, Trial]],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._runner = runner
        self._clock = clock
        self._journal = journal
        self.problem: str | None = None
        self._earlier: defaultdict[str, deque[Trial]] = defaultdict(deque)
        for key, trial in earlier:
            self._earlier[key].append(replace(trial, earlier=True))

    def run(self, plan: Plan, steps: int, label: str, seed_shift: int = 0) -> Trial:
        """One trial, measured now or before."""
        key = _key(plan, steps, label, seed_shift)
        if self._earlier[key]:
            return self._earlier[key].popleft()
        started_s = self._clock()
        trial: Trial = self._runner.run(plan, steps, label, seed_shift)
        trial = replace(trial, took_s=self._clock() - started_s)
        if trial.seconds is not None and self.problem is None:
            try:
                self._journal.add(key, trial)
            except OSError as error:  # the disk is full, say: go on, and keep what is there
                self.problem = f"the journal cannot be written ({error.strerror})"
        return trial


def _key(plan: Plan, steps: int, label: str, seed_shift: int) -> str:
    """Trials with the same key are of the same arm of the same experiment."""
    applications = [asdict(one) for one in plan.applications]
    return json.dumps([label, steps, seed_shift, applications], sort_keys=True)
