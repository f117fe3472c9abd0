"""`trainprof tune --resume`: which tune goes on, and whether what it measured still holds."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from trainprof.errors import UsageError
from trainprof.profiler.samplers.hardware import read_hardware
from trainprof.profiler.store.layout import RUNS_FOLDER
from trainprof.profiler.store.secrets import mask_secrets
from trainprof.rules.experiments.machine import machine_class
from trainprof.rules.experiments.trial import Trial
from trainprof.rules.experiments.trial_journal import About, Journal, JournalError
from trainprof.rules.source_edits.written import digest

ANEW = "start anew, without --resume."


@dataclass(frozen=True, slots=True)
class Earlier:
    """A tune that goes on: its folder, what it is about, and the trials that it has."""

    folder: Path
    about: About
    trials: Sequence[tuple[str, Trial]]


def earlier_tune(command: Sequence[str], out: Path | None) -> Earlier:
    """The tune to go on with: that of `out`, else the latest of this command in this folder.

    Args:
        command: As typed; nothing: of any command.
        out: Its folder, if it is named.

    Raises:
        UsageError: there is none, or the script or the machine is another since.
    """
    if out is not None:
        found = _read(out)
    else:
        folders = sorted(Path(RUNS_FOLDER).glob("*"), reverse=True)
        fitting = (one for one in map(_try, folders) if one and _fits(one.about, command))
        found = next(fitting, None) or _none(command)
    _check(found.about, command)
    return found


def _read(folder: Path) -> Earlier:
    try:
        about, trials = Journal(folder).read()
    except JournalError as error:
        raise UsageError(f"the tune {folder} cannot go on: {error}; {ANEW}") from None
    return Earlier(folder, about, trials)


def _try(folder: Path) -> Earlier | None:
    try:
        return _read(folder)
    except UsageError:
        return None


def _fits(about: About, command: Sequence[str]) -> bool:
    return about.folder == str(Path.cwd()) and tuple(mask_secrets(command)) in ((), about.command)


def _none(command: Sequence[str]) -> Earlier:
    what = f"of `{' '.join(command)}` " if command else ""
    raise UsageError(f"no tune {what}was begun in this folder; {ANEW}")


def _check(about: About, command: Sequence[str]) -> None:
    """Whether what was measured still holds.

    Raises:
        UsageError: it does not.
    """
    if not command and about.secrets:
        raise UsageError(
            "the command's secrets are not kept; add it as you typed it: "
            "trainprof tune --resume -- train.py …"
        )
    if command and tuple(mask_secrets(command)) != about.command:
        raise UsageError(f"that tune is of `{' '.join(about.command)}`; {ANEW}")
    if about.folder != str(Path.cwd()):
        raise UsageError(f"that tune was begun in {about.folder}; go on from there.")
    for path, before in about.sources.items():
        try:
            same = digest(Path(path).read_bytes()) == before
        except OSError:
            same = False
        if not same:
            raise UsageError(f"{path} was changed since that tune measured it; {ANEW}")
    now = machine_class(read_hardware())
    if now != about.machine:
        raise UsageError(
            f"that tune ran on another machine ({about.machine}; this is {now}); {ANEW}"
        )
