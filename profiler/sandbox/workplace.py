"""The scratch folders of a tune, and the way in which its trials leave no trace."""

from __future__ import annotations

import fcntl
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from trainprof.errors import UsageError
from trainprof.profiler.sandbox.availability import why_unavailable
from trainprof.profiler.sandbox.spec import OPEN, OVERLAY, Spec, sandboxed

PREFIX = "trainprof-tune-"
LOCK = "lock"


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
        self.shared.mkdir()
        self._records = records
        self._lock = (scratch / LOCK).open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)

    def sandboxed(self, command: Sequence[str], scratch: Path) -> list[str]:
        """The command that runs `command` without traces.

        Args:
            scratch: An empty folder of its own below `self.scratch`.
            command: Arguments of a program.
        """
        beside = self._records / "scratch" / scratch.name  # another disk, where containers need it
        beside.mkdir(parents=True, exist_ok=True)
        kept = (str(self._records), str(self.shared))
        return sandboxed(Spec(self.way, kept, (str(scratch), str(beside)), tuple(command)))

    def tidy(self, scratch: Path) -> None:
        """Removes what a trial has written."""
        remove_folder(scratch)
        remove_folder(self._records / "scratch" / scratch.name)

    def close(self) -> None:
        """Removes all that is no record."""
        remove_folder(self._records / "scratch")
        remove_folder(self.scratch)
        self._lock.close()


def prepare_workplace(records: Path, folders: Sequence[str], *, unguarded: bool) -> Workplace:
    """The workplace of a tune; removes those of tunes that were killed.

    Args:
        records: Where all that is written stays.
        folders: That must be writable without a trace.
        unguarded: Go on where the system does not allow it.

    Raises:
        UsageError: the system does not allow it, or has no room for scratch.
    """
    _remove_abandoned(Path(tempfile.gettempdir()))
    try:
        scratch = Path(tempfile.mkdtemp(prefix=PREFIX))
        reason = why_unavailable(OVERLAY, [scratch], folders)
        if reason is None:
            return Workplace(records, scratch, OVERLAY)
        if unguarded:
            return Workplace(records, scratch, OPEN)
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


def _remove_abandoned(where: Path) -> None:
    """Scratch folders whose tune lives no more."""
    for folder in where.glob(f"{PREFIX}*"):
        try:
            with (folder / LOCK).open("r+") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                remove_folder(folder)
        except OSError:  # in use, another user's, or being made
            continue
