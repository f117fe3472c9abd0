"""Makes a run folder and writes its run.json: the supervisor's part of the store."""

from __future__ import annotations

import os
import re
import time
from dataclasses import asdict
from pathlib import Path

from trainprof.errors import RunFolderError
from trainprof.profiler.model.records import RunInfo
from trainprof.profiler.store.encoded import encode_json
from trainprof.profiler.store.layout import BASELINE_FOLDER, PROCESSES_FOLDER, RUN_FILE, RUNS_FOLDER
from trainprof.profiler.store.whole_file import replace_file

_SPARE_BYTES = 4096
"""run.json keeps this much blank space, so that its end can be written on a full disk."""

_NAME_LENGTH_MAX = 40


def create_run_folder(
    out: Path | None, name: str | None, script: str, base: Path | None = None
) -> Path:
    """Makes the folder of a new run, with its `procs/` inside.

    Args:
        out: The exact folder; it may exist if it is empty. None: one under `base`.
        name: Replaces the script's name in the folder's name.
        script: Path of the script, or any words for the command.
        base: Where runs are kept; ./trainprof-runs by default.

    Raises:
        RunFolderError: the folder is in use or cannot be written.
    """
    folder = base if base is not None else Path(RUNS_FOLDER)
    try:
        folder = out if out is not None else folder / "*"
        run = _make_exact(out) if out is not None else _make_named(folder.parent, name or script)
        (run / PROCESSES_FOLDER).mkdir()
    except OSError as error:
        raise RunFolderError(
            f"the run folder {folder} cannot be written ({error.strerror}); "
            "choose another with --out DIR."
        ) from None
    return run


def _make_exact(out: Path) -> Path:
    if out.is_dir():
        if any(out.iterdir()):
            raise RunFolderError(
                f"the folder {out} exists and is not empty; choose another or empty it."
            )
    elif out.exists():
        raise RunFolderError(f"{out} is a file, not a folder; choose another with --out DIR.")
    out.mkdir(parents=True, exist_ok=True)
    return out


def _make_named(base: Path, words: str) -> Path:
    base.mkdir(parents=True, exist_ok=True)
    ignore = base / ".gitignore"
    if not ignore.exists():
        ignore.write_text("*\n")
    stamp = f"{time.strftime('%Y%m%d-%H%M%S')}-{_slug(words)}"
    number = 1
    while True:
        folder = base / (stamp if number == 1 else f"{stamp}-{number}")
        try:
            folder.mkdir()
        except FileExistsError:
            number += 1
        else:
            return folder


def _slug(words: str) -> str:
    """A folder name of the script's name: letters, digits, dot, underscore and hyphen."""
    stem = Path(words).name.removesuffix(".py")
    slug = re.sub(r"[^\w.-]+", "-", stem).strip("-.")
    return slug[:_NAME_LENGTH_MAX] or "run"


def write_run_info(folder: Path, info: RunInfo) -> None:
    """Writes run.json as a whole; where the disk is full, in place of the old one.

    Raises:
        RunFolderError: it cannot be written at all.
    """
    path = folder / RUN_FILE
    data = encode_json(asdict(info))
    padded = data.ljust(-(-len(data) // _SPARE_BYTES) * _SPARE_BYTES + _SPARE_BYTES - 1) + b"\n"
    try:
        replace_file(str(path), padded)
    except OSError as error:
        if not _write_in_place(path, data):
            raise RunFolderError(
                f"{path} cannot be written ({error.strerror}); free some space or check its rights."
            ) from None


def _write_in_place(path: Path, data: bytes) -> bool:
    """Overwrites a file that is at least as long, which needs no free space."""
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CLOEXEC)
    except OSError:
        return False
    try:
        size = os.fstat(descriptor).st_size
        if size <= len(data):
            return False
        padded = data.ljust(size - 1) + b"\n"
        return os.pwrite(descriptor, padded, 0) == len(padded)
    except OSError:
        return False
    finally:
        os.close(descriptor)


def run_inside(folder: Path) -> Path:
    """The run that a folder holds: of a tune that of the unchanged script, else the folder."""
    baseline = folder / BASELINE_FOLDER
    return baseline if baseline.is_dir() and not (folder / RUN_FILE).exists() else folder
