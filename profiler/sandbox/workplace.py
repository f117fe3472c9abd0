"""The scratch folders of a tune, and the way in which its trials leave no trace."""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import IO, Any

from trainprof.errors import TrainprofError, UsageError
from trainprof.profiler.sandbox.availability import why_unavailable
from trainprof.profiler.sandbox.environment import cache_folders, trial_environment
from trainprof.profiler.sandbox.journal import is_pending, put_back
from trainprof.profiler.sandbox.spec import (
    JOURNAL,
    JOURNAL_FOLDER,
    OPEN,
    OVERLAY,
    Spec,
    sandboxed,
)
from trainprof.profiler.sandbox.watched import run_watched

PREFIX, KEPT_PREFIX = "trainprof-tune-", "trainprof-copies-"
LOCK = "lock"
DISK = "/var/tmp"
WAY = "TRAINPROF_SANDBOX"
"""Variable that names the only way to try."""

Say = Callable[[str], None]


class Workplace:
    """Where trials write meanwhile.

    Args:
        records: Folder in which all that is written stays.
        scratch: Folder that goes away with `close`. way: See `Spec`.

    Attributes:
        scratch, way: As given.
        shared: A folder in which what a trial writes is there for the next one, such as compiled
            code.
    """

    def __init__(self, records: Path, scratch: Path, way: str) -> None:
        self.scratch = scratch
        self.way = way
        self.shared = scratch / "shared"
        self.shared.mkdir(exist_ok=True)
        self._records = records
        self._caches = cache_folders()
        self._lock = lock_folder(scratch)

    def run(
        self,
        command: Sequence[str],
        name: str,
        output: Path,
        patience_s: float,
        environment: Mapping[str, str] = {},
    ) -> int | None:
        """The exit status of a command that leaves no traces; None where it took too long.

        Args:
            command: Arguments of a program.
            name: Of this run, short.
            output: File for stdout and stderr.
            patience_s: Seconds that it may take.
            environment: Variables that differ from ours, beside those of `trial_environment`.

        Raises:
            TrainprofError: a file cannot be made as it was.
        """
        scratch = self.scratch / name
        (scratch / "tmp").mkdir(parents=True)
        changes = {**trial_environment(scratch / "tmp"), **environment}
        try:
            return run_watched(self._sandboxed(command, scratch), output, patience_s, changes)
        finally:
            self._tidy(scratch)

    def falls_back(self, output: Path) -> bool:
        """Whether a run that failed met what an overlay cannot do; the next goes the other way.

        Args:
            output: Of that run.
        """
        text = output.read_text(encoding="utf-8", errors="replace")
        met = any(os.strerror(one) in text for one in (errno.EROFS, errno.EOVERFLOW, errno.EXDEV))
        if self.way != OVERLAY or not met or why_unavailable(JOURNAL, [self.scratch], []):
            return False
        self.way = JOURNAL
        return True

    def _sandboxed(self, command: Sequence[str], scratch: Path) -> list[str]:
        beside = self._records / "scratch" / scratch.name  # another disk, where containers need it
        beside.mkdir(parents=True, exist_ok=True)
        kept = (str(self._records), str(self.shared))
        places = (str(scratch), str(beside))
        caches = self._caches
        return sandboxed(Spec(self.way, kept, places, tuple(command), str(self.shared), caches))

    def _tidy(self, scratch: Path) -> None:
        """Removes what a run has written."""
        remove_folder(self._records / "scratch" / scratch.name)
        journal = scratch / JOURNAL_FOLDER
        left = put_back(journal) if is_pending(journal) else []
        if left:
            raise TrainprofError(
                f"{left[0]} cannot be made as it was before the trial; how it was stands in "
                f"{journal}."
            )
        remove_folder(scratch)

    def close(self) -> None:
        """Removes all that is no record; first puts back what an interrupt kept from it."""
        remove_folder(self._records / "scratch")
        journals = {*self.scratch.glob(f"*/{JOURNAL_FOLDER}"), self.shared / JOURNAL_FOLDER}
        pending = [one for one in journals if is_pending(one)]
        if not any([put_back(journal) for journal in pending]):
            remove_folder(self.scratch)
        self._lock.close()


def prepare_workplace(
    records: Path, folders: Sequence[str], *, unguarded: bool, say: Say = lambda _: None
) -> Workplace:
    """The workplace of a tune; tidies up after tunes that were killed.

    Args:
        records: Where all that is written stays.
        folders: That must be writable without a trace.
        unguarded: Go on where the system does not allow it.
        say: Is told what the user should know.

    Raises:
        UsageError: the system does not allow it, or has no room for scratch.
    """
    tidy_up_after_killed(say)
    try:
        scratch = Path(tempfile.mkdtemp(prefix=PREFIX, dir=scratch_places()[0]))
        with lock_folder(scratch):  # until the workplace holds it itself
            way, reason = _way(scratch, folders)
            if way is not None or unguarded:
                if reason is not None:
                    say(_explained(way, reason))
                return Workplace(records, scratch, way or OPEN)
    except KeyboardInterrupt:
        tidy_up_after_killed(say)
        raise
    except OSError as error:
        raise UsageError(
            f"there is no place for what trials write meanwhile ({error.strerror or error}); free "
            "some space, or set TMPDIR to another folder."
        ) from None
    remove_folder(scratch)
    raise UsageError(
        f"trials cannot be kept from writing into your project here ({reason}); --yes lets "
        "them write."
    )


def _way(scratch: Path, folders: Sequence[str]) -> tuple[str | None, str | None]:
    """The first way that works, and why the better one does not."""
    asked = os.environ.get(WAY)
    reason = None
    for way in (asked,) if asked in (OVERLAY, JOURNAL) else (OVERLAY, JOURNAL):
        refused = why_unavailable(way, [scratch], folders)
        if refused is None:
            return way, reason
        reason = refused if reason is None else f"{reason}; {refused}"
    return None, reason


def _explained(way: str | None, reason: str) -> str:
    if way is None:
        return f"trials write where the script writes, and it stays ({reason})"
    return f"files that trials change are copied first and put back afterwards ({reason})"


def scratch_places() -> list[str]:
    """Folders for scratch, the first to be used: as the environment says, else on a disk."""
    default = tempfile.gettempdir()
    is_asked = any(os.environ.get(name) for name in ("TMPDIR", "TEMP", "TMP"))
    places = [default, DISK] if is_asked else [DISK, default]
    return [one for one in places if os.access(one, os.W_OK)] or [default]


def lock_folder(folder: Path) -> IO[str]:
    """Its lock, held from the moment at which others can see it: they would take it for abandoned.

    A process that asks again holds both; the folder is its own until the later one is closed.
    """
    new = folder / f"{LOCK}.new"
    lock = new.open("w")
    fcntl.flock(lock, fcntl.LOCK_EX)
    new.rename(folder / LOCK)
    return lock


def tidy_up_after_killed(say: Say) -> None:
    """Puts back what tunes that were killed had changed, and removes their scratch folders."""
    for place in scratch_places():
        for folder in Path(place).glob(f"{PREFIX}*"):
            try:
                with (folder / LOCK).open("r+") as lock:
                    fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                    _tidy_abandoned(folder, say)
            except OSError:  # in use, another user's, or being made
                continue


def _tidy_abandoned(folder: Path, say: Say) -> None:
    left: list[str] = []
    pending = [one for one in folder.glob(f"*/{JOURNAL_FOLDER}") if is_pending(one)]
    for journal in pending:
        left += put_back(journal, later_changes_stay=True)
    if pending:
        say("a tune was killed; the files that it had changed are as they were")
    if not left:
        return remove_folder(folder)
    copies = folder.rename(folder.with_name(folder.name.replace(PREFIX, KEPT_PREFIX)))
    return say(f"but {left[0]} was changed since, and left so; how it was stands in {copies}")


def remove_folder(folder: Path) -> None:
    """Removes a folder with all in it, whatever rights it has; what resists is left."""
    if not folder.exists():
        return
    shutil.rmtree(folder, onerror=_with_rights)


def _with_rights(function: Callable[..., Any], path: str, _: object) -> None:
    """Once more, after taking the rights that an owner may take."""
    try:
        os.chmod(os.path.dirname(path), stat.S_IRWXU)
        if os.path.isdir(path) and not os.path.islink(path):
            os.chmod(path, stat.S_IRWXU)
            shutil.rmtree(path, ignore_errors=True)
        else:
            os.unlink(path)
    except OSError:
        return
