"""Reads the course of a tune while it runs, and what became of it afterwards.

The truth is `tune.json`, once it is there. Before, and where a tune was killed, `progress.jsonl`
tells; a tune of an older trainprof has none, and then only the runs in its folder are known.
"""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import msgspec

from trainprof.errors import RunFolderError
from trainprof.profiler.model.tune_progress import (
    Attempt,
    TuneBegun,
    TuneEnded,
    TuneNoise,
    TunePlanned,
    TuneRun,
)
from trainprof.profiler.model.tuning import RefusedFix, TriedFix, TriedTogether, TuneResult
from trainprof.profiler.store.layout import (
    BASELINE_FOLDER,
    PROCESSES_FOLDER,
    RUN_FILE,
    TUNE_FILE,
    TUNE_PROGRESS_FILE,
)
from trainprof.profiler.store.lines import UNREADABLE, array_of_lines
from trainprof.profiler.store.status import SILENCE_S, is_supervised
from trainprof.profiler.store.tail import FileTail
from trainprof.profiler.store.tune_result import read_tune

STATUS_EVERY_S = 1.0
TRIAL_S_MAX = 3600.0
"""A tune that wrote nothing of its course is taken to go on for this long after its latest trial
began."""

_KINDS: dict[str, type] = {
    "begun": TuneBegun,
    "planned": TunePlanned,
    "run": TuneRun,
    "attempt": Attempt,
    "noise": TuneNoise,
    "ended": TuneEnded,
}


class _Line(msgspec.Struct):
    kind: str
    at_unix_s: float
    data: msgspec.Raw


@dataclass(frozen=True, slots=True)
class TuneProgress:
    """A tune as far as it got.

    Attributes:
        folder: Of the tune. run_folder: Of the run that goes on in it; of the unchanged script
            where none does.
        status: running | complete | budget | interrupted | failed | dry run | killed, or
            "unknown" where no process is known to have it.
        begun, planned, run: None where that was not told.
        last_unix_s: When something was told last; None where nothing was.
        attempts: In order. refused: What was not tried.
        aa: As of `TuneResult`. reason: Why it failed.
        result: Once it is over.
    """

    folder: Path
    run_folder: Path
    status: str = "running"
    begun: TuneBegun | None = None
    planned: TunePlanned | None = None
    run: TuneRun | None = None
    last_unix_s: float | None = None
    attempts: tuple[Attempt, ...] = ()
    refused: tuple[RefusedFix, ...] = ()
    aa: Mapping[str, Any] = field(default_factory=dict)
    reason: str = ""
    result: TuneResult | None = None

    @property
    def over(self) -> bool:
        """Whether nothing more comes of it."""
        return self.status != "running"


def is_tune(folder: Path) -> bool:
    """Whether a folder is that of a tune."""
    names = (TUNE_PROGRESS_FILE, TUNE_FILE, BASELINE_FOLDER)
    return not (folder / RUN_FILE).exists() and any((folder / name).exists() for name in names)


def tune_status(folder: Path) -> str:
    """How a list of runs calls a tune: running | tuned, or tune where it ended without a result."""
    try:
        now = TuneTail(folder).look()
    except RunFolderError:  # its result is there, and damaged or of a newer version
        return "tuned"
    if not now.over:
        return "running"
    return "tuned" if now.result is not None else "tune"


class TuneTail:
    """The folder of a tune, read as it grows.

    Args:
        folder: Of the tune.
        clock: Unix time in seconds.
    """

    def __init__(self, folder: Path, clock: Callable[[], float] = time.time) -> None:
        self.folder = folder
        self._clock = clock
        self._file = FileTail(folder / TUNE_PROGRESS_FILE)
        self._lines = msgspec.json.Decoder(list[_Line])
        self._told = TuneProgress(folder, folder / BASELINE_FOLDER)
        self._attempts: dict[int, Attempt] = {}
        self._ended: TuneEnded | None = None
        self._looked_s = -STATUS_EVERY_S
        self._shown = self._told

    def look(self) -> TuneProgress:
        """The tune as it is now: the same object as before where nothing is new.

        Raises:
            RunFolderError: a file is of a newer format, or the result is damaged.
        """
        lines = self._new_lines()
        for line in lines:
            self._take(line)
        if lines or abs(self._clock() - self._looked_s) >= STATUS_EVERY_S:
            self._looked_s = self._clock()
            now = self._judged()
            if now != self._shown:
                self._shown = now
        return self._shown

    def _new_lines(self) -> list[_Line]:
        lines: list[_Line] = []
        while True:
            for part in self._file.parsed(lambda one: self._lines.decode(array_of_lines(one))):
                lines += part
            if not self._file.behind:
                return lines

    def _take(self, line: _Line) -> None:
        kind = _KINDS.get(line.kind)
        if kind is None:  # of a newer trainprof
            return
        try:
            told: object = msgspec.json.decode(line.data, type=kind)
        except UNREADABLE:
            return
        if isinstance(told, TuneRun) and not told.folder.isprintable():
            return  # no folder of ours
        if isinstance(told, TuneEnded):
            self._ended = told
        elif isinstance(told, Attempt):
            self._attempts[told.number] = told
        else:
            self._told = replace(self._told, **self._changes(told))
        self._told = replace(self._told, last_unix_s=line.at_unix_s)

    def _changes(self, told: object) -> dict[str, Any]:
        if isinstance(told, TuneBegun):  # one that goes on comes to all its attempts again
            self._ended, self._attempts = None, {}
            return {"begun": told, "run": None, "planned": None, "refused": (), "aa": {}}
        if isinstance(told, TunePlanned):
            return {"planned": told, "refused": told.refused}
        if isinstance(told, TuneNoise):
            return {"aa": told.aa}
        return {"run": told}

    def _judged(self) -> TuneProgress:
        """How it stands, and which run is to be looked at."""
        status, reason = self._status()
        now = replace(
            self._told, status=status, reason=reason, attempts=tuple(self._attempts.values())
        )
        if not now.over:
            return replace(now, run_folder=self._run_folder())
        result = read_tune(self.folder) if self._has_result() else None
        return now if result is None else _with_result(now, result)

    def _status(self) -> tuple[str, str]:
        if self._ended is not None:
            return self._ended.ended, self._ended.reason
        begun = self._told.begun
        if begun is None:
            return self._status_without_progress(), ""
        if begun.host not in (None, os.uname().nodename):
            return ("running" if self._is_fresh() else "killed"), ""
        alive = is_supervised(begun.supervisor_pid, begun.started_unix_s)
        return ("running" if alive else "killed"), ""

    def _status_without_progress(self) -> str:
        if (self.folder / TUNE_FILE).exists():
            return "complete"
        newest_s = max((_modified_s(one) for one in self.folder.glob("trials/*")), default=0.0)
        return "running" if self._clock() - newest_s < TRIAL_S_MAX else "unknown"

    def _is_fresh(self) -> bool:
        """Whether a tune of another machine has written something of late."""
        run = self._run_folder()
        paths = [self._file.path, *run.glob("*"), *run.glob(f"{PROCESSES_FOLDER}/*/*")]
        newest_s = max((_modified_s(one) for one in paths), default=0.0)
        return self._clock() - newest_s < SILENCE_S

    def _run_folder(self) -> Path:
        if self._told.run is not None:
            return self.folder / self._told.run.folder
        trials = sorted(self.folder.glob("trials/*/run"))
        return trials[-1] if trials and self._told.begun is None else self.folder / BASELINE_FOLDER

    def _has_result(self) -> bool:
        """Whether there is one, and none of before the tune went on."""
        since_s = self._told.begun.started_unix_s if self._told.begun is not None else 0.0
        return _modified_s(self.folder / TUNE_FILE) >= since_s


def _modified_s(path: Path) -> float:
    """Unix time; 0 where there is no such file."""
    try:
        return path.stat().st_mtime
    except OSError:
        return 0.0


def _with_result(now: TuneProgress, result: TuneResult) -> TuneProgress:
    """What `tune.json` says stands above all that was told before."""
    return replace(
        now,
        status=result.ended,
        aa=result.aa,
        refused=result.refused,
        attempts=attempts_of(result),
        result=result,
    )


def attempts_of(result: TuneResult) -> tuple[Attempt, ...]:
    """What a tune has tried, those together last; numbered anew."""
    by_verdict = {
        "keep": result.kept,
        "inconclusive": result.inconclusive,
        "reject": result.rejected,
        "failed": result.failed,
        None: result.candidates,
    }
    singles = [_single(verdict, one) for verdict, fixes in by_verdict.items() for one in fixes]
    together = [_together(one, result) for one in result.combinations]
    return tuple(replace(one, number=n) for n, one in enumerate([*singles, *together], 1))


def _single(verdict: str | None, tried: TriedFix) -> Attempt:
    return Attempt(
        0,
        (tried.fix,),
        tried.params,
        tried.rule,
        verdict,
        tried.speedup,
        tried.ci,
        tried.pairs,
        tried.predicted,
        tried.reason,
        tried.loss_check,
        tried.measured,
        tried.searched,
    )


def _together(tried: TriedTogether, result: TuneResult) -> Attempt:
    """The loss check of the tune is that of what it claims."""
    is_claimed = (tried.verdict, tried.speedup, tried.ci) == ("keep", result.speedup, result.ci)
    return Attempt(
        0,
        tried.fixes,
        verdict=tried.verdict,
        speedup=tried.speedup,
        ci=tried.ci,
        pairs=tried.pairs,
        reason=tried.reason,
        loss_check=result.loss_check if is_claimed else None,
        measured=tried.measured,
    )
