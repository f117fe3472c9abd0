"""Which of Python's audit events meet a file that is still to be written. Standard library only."""

from __future__ import annotations

import os
from collections.abc import Iterable
from typing import Any

STARTS = frozenset(("os.system", "os.exec", "os.posix_spawn", "subprocess.Popen"))
"""Another program may read any file."""
LISTS = frozenset(("os.listdir", "os.scandir"))
"""Argument 0 is the folder, None for the current one, or a descriptor of it."""
CHANGES: dict[str, tuple[tuple[int, int | None], ...]] = {
    "os.rename": ((0, 2), (1, 3)),
    "os.link": ((0, 2), (1, 3)),
    "os.symlink": ((0, None), (1, 2)),
    "os.remove": ((0, 1),),
    "os.chmod": ((0, 2),),
    "os.truncate": ((0, None),),
    "shutil.copyfile": ((0, None), (1, None)),
    "shutil.move": ((0, None), (1, None)),
    "shutil.rmtree": ((0, 1),),
}
"""Places of the paths among the arguments, each with that of the folder's descriptor."""
HEARD = STARTS | LISTS | frozenset(CHANGES) | {"open"}


def meets(event: str, args: tuple[Any, ...], files: Iterable[str]) -> bool:
    """Whether what happens could see or change one of the files.

    Args:
        event: Of an audit hook.
        args: Of the event.
        files: Absolute paths without links.
    """
    if event in STARTS:
        return True
    try:
        if event == "open":
            return isinstance(args[0], (str, bytes, os.PathLike)) and _real(args[0]) in set(files)
        if event in LISTS:
            folder = _real("." if args[0] is None else args[0])
            return any(os.path.dirname(file) == folder for file in files)
        return any(_is_around(args, *places, files) for places in CHANGES.get(event, ()))
    except (OSError, ValueError, TypeError):  # no such descriptor, or no path at all
        return True


def _is_around(
    args: tuple[Any, ...], place: int, place_of_folder: int | None, files: Iterable[str]
) -> bool:
    """Whether the argument is one of the files, or a folder around one."""
    relative = place_of_folder is not None and place_of_folder < len(args)
    descriptor = args[place_of_folder] if relative and place_of_folder is not None else None
    path = _real(args[place], descriptor)
    return any(file == path or file.startswith(f"{path}{os.sep}") for file in files)


def _real(path: Any, descriptor: int | None = None) -> str:
    """The absolute path without links; of a descriptor, that of the open folder or file."""
    if isinstance(path, int):
        return os.readlink(f"/proc/self/fd/{path}")
    name = os.fsdecode(path)
    if descriptor is not None and descriptor >= 0:
        name = os.path.join(os.readlink(f"/proc/self/fd/{descriptor}"), name)
    return os.path.realpath(name)
