"""Writes a patch into the user's files, with what is needed to take it back.

Each patch that is written has a folder `patches/<time>/` beside the runs: the files as they were,
and `patch.json` with their hashes before and after.
"""

from __future__ import annotations

import hashlib
import json
import os
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from trainprof.errors import TrainprofError, UsageError
from trainprof.profiler.store.layout import RUNS_FOLDER
from trainprof.profiler.store.whole_file import replace_file
from trainprof.rules.source_edits.changed_file import ChangedFile

PATCHES_FOLDER = "patches"
_RECORD = "patch.json"


@dataclass(frozen=True, slots=True)
class _File:
    """One file of a patch: where it is, where its old bytes lie, and SHA-256 of both states."""

    path: str
    copy: str
    old: str
    new: str


def digest(data: bytes) -> str:
    """SHA-256, as plans hold it."""
    return hashlib.sha256(data).hexdigest()


def write_patch(files: Sequence[ChangedFile], base: Path | None = None) -> Path:
    """Replaces the files, all of them or none; gives the folder with their old bytes.

    Args:
        files: Before and after.
        base: Where runs are kept; ./trainprof-runs by default.

    Raises:
        UsageError: a file has changed meanwhile.
        TrainprofError: a file cannot be written; all are as they were.
    """
    for file in files:
        if _bytes_of(file.path) != file.old:
            raise UsageError(f"{file.path} was changed meanwhile; ask again.")
    folder = base if base is not None else Path(RUNS_FOLDER)
    try:
        folder = _new_folder(folder)
        records = [_keep(folder, number, file) for number, file in enumerate(files)]
        _write_record(folder, records)
    except OSError as error:
        raise TrainprofError(
            f"the old files cannot be kept under {folder} ({error.strerror}); nothing was changed."
        ) from None
    _replace_all(files)
    return folder


def _replace_all(files: Sequence[ChangedFile]) -> None:
    done: list[ChangedFile] = []
    for file in files:
        try:
            _replace(file.path, file.new)
        except OSError as error:
            for earlier in done:
                _replace(earlier.path, earlier.old)
            raise TrainprofError(
                f"{file.path} cannot be written ({error.strerror}); nothing was changed."
            ) from None
        done.append(file)


def _replace(path: str, data: bytes) -> None:
    """In one step, behind symbolic links, with the rights that the file has."""
    real = os.path.realpath(path)
    mode = os.stat(real).st_mode & 0o7777
    replace_file(real, data)
    os.chmod(real, mode)


def _new_folder(base: Path) -> Path:
    base.mkdir(parents=True, exist_ok=True)
    ignore = base / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    stamp = time.strftime("%Y%m%d-%H%M%S")
    number = 1
    while True:
        folder = base / PATCHES_FOLDER / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir(parents=True)
        except FileExistsError:
            number += 1
        else:
            return folder


def _keep(folder: Path, number: int, file: ChangedFile) -> _File:
    copy = f"{number}-{Path(file.path).name}"
    (folder / copy).write_bytes(file.old)
    return _File(file.path, copy, digest(file.old), digest(file.new))


def _write_record(folder: Path, files: Sequence[_File]) -> None:
    record = {"files": [asdict(file) for file in files]}
    (folder / _RECORD).write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


def was_written(path: str, old: str | None, base: Path | None = None) -> bool:
    """Whether a file is now what a patch of ours made of it.

    Args:
        path: The file.
        old: Hash that it had before the patch; None for any.
        base: Where runs are kept; ./trainprof-runs by default.
    """
    try:
        now = digest(Path(path).read_bytes())
    except OSError:
        return False
    return any(
        _is_same(file.path, path) and file.new == now and old in (None, file.old)
        for _, files in _patches(base)
        for file in files
    )


def last_written(
    paths: Sequence[str] | None = None, base: Path | None = None
) -> tuple[Path, list[ChangedFile]]:
    """The patch that was written last, the wrong way round: from the new bytes to the old ones.

    Args:
        paths: Only one that changed one of these files.
        base: Where runs are kept; ./trainprof-runs by default.

    Raises:
        UsageError: there is none, or its files have been changed since.
    """
    for folder, files in _patches(base):
        if paths is None or any(_is_same(one.path, path) for one in files for path in paths):
            return folder, [_back(folder, file) for file in files]
    where = f" into {' or '.join(paths)}" if paths else ""
    raise UsageError(f"no fix was written{where} from here; there is nothing to take back.")


def _back(folder: Path, file: _File) -> ChangedFile:
    now = _bytes_of(file.path)
    if digest(now) != file.new:
        raise UsageError(
            f"{file.path} was changed after the fix was written; take it back by hand, the old "
            f"file is {folder / file.copy}."
        )
    old = _bytes_of(str(folder / file.copy))
    if digest(old) != file.old:
        raise UsageError(f"{folder / file.copy} is not the old file any more; nothing was changed.")
    return ChangedFile(file.path, now, old)


def take_back(folder: Path, files: Sequence[ChangedFile]) -> None:
    """Restores the old bytes, and forgets the patch.

    Raises:
        TrainprofError: a file cannot be written; all are as they were.
    """
    _replace_all(files)
    os.replace(folder / _RECORD, folder / f"{_RECORD}.undone")


def _is_same(one: str, other: str) -> bool:
    return os.path.realpath(one) == os.path.realpath(other)


def _patches(base: Path | None) -> list[tuple[Path, list[_File]]]:
    """Those that can be taken back, the newest first."""
    folder = (base if base is not None else Path(RUNS_FOLDER)) / PATCHES_FOLDER
    try:
        records = sorted(folder.glob(f"*/{_RECORD}"), key=_age, reverse=True)
        return [(record.parent, files) for record in records if (files := _files(record))]
    except OSError:
        return []


def _age(record: Path) -> tuple[int, str]:
    return record.stat().st_mtime_ns, record.parent.name


def _files(record: Path) -> list[_File]:
    """An unreadable record is none."""
    try:
        return [_File(**file) for file in json.loads(record.read_bytes())["files"]]
    except (ValueError, KeyError, TypeError):
        return []


def _bytes_of(path: str) -> bytes:
    try:
        return Path(path).read_bytes()
    except OSError as error:
        raise UsageError(f"{path} cannot be read ({error.strerror}).") from None
