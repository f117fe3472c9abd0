"""Files as they were before something changed them: copied first, put back afterwards.

A journal is a folder with copies and `log.jsonl`, one line for each path in the order of the first
change. It says all that is needed to put things back, also after whoever wrote it was killed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import stat
from collections.abc import Iterator, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trainprof.profiler.sandbox.mounts import is_within

LOG = "log.jsonl"
SPARE_BYTES = 256 << 20
"""That must be left on the disk after a copy."""
CLOCK_S = 2.0
"""By how much the clocks of file systems may differ."""

ABSENT, FILE, FOLDER, LINK = "absent", "file", "folder", "link"


@dataclass(frozen=True, slots=True)
class Entry:
    """What was at a path.

    Attributes:
        kind: ABSENT, FILE, FOLDER or LINK.
        copy: Name of the copy in the journal, of a file. digest: Of its bytes.
        owner: User and group of a file. target: Of a link. mode: Rights of a folder.
    """

    path: str
    kind: str
    copy: str = ""
    digest: str = ""
    owner: tuple[int, int] = (-1, -1)
    target: str = ""
    mode: int = 0


class Journal:
    """Keeps what is at a path, the first time that it is asked to.

    Args:
        folder: Of the journal; one that is there goes on.
        ignored: Folders of which nothing is kept.
        others: Other journals, each with the folders of which it keeps all.
    """

    def __init__(
        self,
        folder: Path,
        ignored: tuple[str, ...],
        others: Sequence[tuple[Journal, tuple[str, ...]]] = (),
    ) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._folder = folder
        self._others = tuple(others)
        self._ignored = tuple(one.rstrip("/") + "/" for one in ignored)
        self._log = (folder / LOG).open("a", encoding="utf-8")
        earlier = _read(folder)
        self._seen = {entry.path for entry in earlier}
        self._whole: set[str] = set()
        self._made = {entry.path for entry in earlier if entry.kind == ABSENT}

    def keep(self, path: str, *, whole: bool = False) -> None:
        """Keeps what is at `path`.

        Args:
            path: Absolute, with no link on the way.
            whole: Of a folder, all that is in it too.

        Raises:
            OSError: there is no room for the copy, or the file cannot be read.
        """
        for journal, folders in self._others:
            if any(is_within(path, one) for one in folders):
                return journal.keep(path, whole=whole)
        known = path in (self._whole if whole else self._seen)
        if known or f"{path}/".startswith(self._ignored) or self._is_ours(path):
            return None
        for entry in self._entries(path, whole):
            if entry.path not in self._seen:
                self._log.write(json.dumps(asdict(entry)) + "\n")
                self._seen.add(entry.path)
                if entry.kind == ABSENT:
                    self._made.add(entry.path)
        self._log.flush()
        if whole:
            self._whole.add(path)
        return None

    def touch(self) -> None:
        """Leaves a sign of life."""
        os.utime(self._folder / LOG)
        for journal, _ in self._others:
            journal.touch()

    def close(self) -> None:
        """No more is kept."""
        self._log.close()
        for journal, _ in self._others:
            journal.close()

    def _is_ours(self, path: str) -> bool:
        """Whether it lies in a folder that was not there before."""
        while len(path) > 1:
            path = os.path.dirname(path)
            if path in self._made:
                return True
        return False

    def _entries(self, path: str, whole: bool) -> Iterator[Entry]:
        try:
            status = os.lstat(path)
        except (FileNotFoundError, NotADirectoryError):
            yield Entry(path, ABSENT)
            return
        if stat.S_ISLNK(status.st_mode):
            yield Entry(path, LINK, target=os.readlink(path))
        elif stat.S_ISDIR(status.st_mode):
            yield Entry(path, FOLDER, mode=stat.S_IMODE(status.st_mode))
            for name in os.listdir(path) if whole else ():
                yield from self._entries(f"{path}/{name}", whole)
        elif stat.S_ISREG(status.st_mode) and path not in self._seen and _may_change(path, status):
            yield self._copied(path, status)

    def _copied(self, path: str, status: os.stat_result) -> Entry:
        if status.st_size > shutil.disk_usage(self._folder).free - SPARE_BYTES:
            raise OSError(28, "no space for a copy", path)
        name = f"{len(self._seen)}"
        shutil.copy2(path, self._folder / name)
        owner = (status.st_uid, status.st_gid)
        return Entry(path, FILE, name, digest_of(self._folder / name), owner)


def is_pending(folder: Path) -> bool:
    """Whether the journal in this folder has not been put back."""
    return (folder / LOG).exists()


def put_back(folder: Path, *, later_changes_stay: bool = False) -> list[str]:
    """Makes all as it was; gives the paths for which that failed, or removes the journal.

    Args:
        folder: Of the journal.
        later_changes_stay: What changed after the last sign of life is somebody's work, and left
            alone: a failure.
    """
    alive_until_s = (folder / LOG).stat().st_mtime if later_changes_stay else None
    known = _read(folder)
    entries = [entry for entry in known if not _is_newer(entry.path, alive_until_s)]
    left = [entry.path for entry in known if entry not in entries]
    # Outer folders first: one that became a link must not lead what follows to other files.
    for entry in sorted(entries, key=lambda one: len(one.path)):
        try:
            _restore(entry, folder)
        except OSError:
            left.append(entry.path)
    if not left:
        shutil.rmtree(folder, ignore_errors=True)
    return left


def digest_of(path: Path | str) -> str:
    """Of the bytes of a file."""
    digest = hashlib.blake2b(digest_size=20)
    with open(path, "rb") as file:
        while block := file.read(1 << 20):
            digest.update(block)
    return digest.hexdigest()


def _read(folder: Path) -> list[Entry]:
    """What the log says; a torn last line belongs to a change that was not made yet."""
    entries = []
    for line in (folder / LOG).read_text(encoding="utf-8").splitlines():
        try:
            entries.append(Entry(**json.loads(line)))
        except (ValueError, TypeError):
            continue
    return entries


def _is_newer(path: str, alive_until_s: float | None) -> bool:
    try:
        return alive_until_s is not None and os.lstat(path).st_mtime > alive_until_s + CLOCK_S
    except OSError:
        return False


def _remove(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _restore(entry: Entry, folder: Path) -> None:
    """Makes one path as it was.

    Raises:
        OSError: it cannot be, or is not the same afterwards.
    """
    if entry.kind == ABSENT:
        _remove(entry.path)
    elif entry.kind == FOLDER:
        if os.path.islink(entry.path) or os.path.isfile(entry.path):
            os.unlink(entry.path)
        os.makedirs(entry.path, exist_ok=True)
        os.chmod(entry.path, entry.mode)
    elif entry.kind == LINK:
        if not os.path.islink(entry.path) or os.readlink(entry.path) != entry.target:
            _remove(entry.path)
            os.symlink(entry.target, entry.path)
    elif entry.kind == FILE:
        _restore_file(entry, folder / entry.copy)


def _may_change(path: str, status: os.stat_result) -> bool:
    """Whether this user can change the file or its name; else the system refuses to."""
    may_write = os.access(path, os.W_OK) or os.access(os.path.dirname(path), os.W_OK)
    return may_write or status.st_uid == os.geteuid()


def _restore_file(entry: Entry, copy: Path) -> None:
    path = entry.path
    if os.path.islink(path) or os.path.isdir(path):
        _remove(path)
    if not os.path.exists(path) or digest_of(path) != entry.digest:
        if os.path.exists(path) and not os.access(path, os.W_OK):
            os.chmod(path, stat.S_IRUSR | stat.S_IWUSR)
        shutil.copyfile(copy, path)  # not a new file: it may have other names
    status = os.stat(path)
    if (status.st_uid, status.st_gid) != tuple(entry.owner):
        os.chown(path, *entry.owner)
    shutil.copystat(copy, path)
    if digest_of(path) != entry.digest:
        raise OSError(5, "its content is not what it was", path)
