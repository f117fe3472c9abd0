"""Which folders a process could write to, and what is mounted below them."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass

SYSTEM = ("/dev", "/proc", "/sys", "/run")
"""No files of anybody's."""
NOT_STORAGE = frozenset(
    (
        *("autofs", "binfmt_misc", "bpf", "cgroup", "cgroup2", "configfs", "debugfs", "devpts"),
        *("devtmpfs", "efivarfs", "fusectl", "hugetlbfs", "mqueue", "nsfs", "proc", "pstore"),
        *("rpc_pipefs", "securityfs", "selinuxfs", "sysfs", "tracefs"),
    )
)
DEPTH = 3
"""Levels below the root at which folders are looked for that others own and this user may use."""
MOST_FOLDERS = 2_000
"""That are looked at."""


@dataclass(frozen=True, slots=True)
class Mount:
    """One line of mountinfo.

    Attributes:
        folder: Where it is seen; a file with containers, at times.
        kind: Of the file system. options: Of the mount, such as "ro" and "nosuid".
    """

    folder: str
    kind: str
    options: frozenset[str]

    @property
    def is_storage(self) -> bool:
        """Whether files are kept there."""
        return self.kind not in NOT_STORAGE


def parse_mounts(text: str) -> list[Mount]:
    """The mounts of /proc/self/mountinfo, the outer ones first; of two at one place the later."""
    found: dict[str, Mount] = {}
    for line in text.splitlines():
        before, dash, after = line.partition(" - ")
        fields, kinds = before.split(" "), after.split(" ")
        if dash and len(fields) >= 6:
            folder = _unescaped(fields[4])
            found[folder] = Mount(folder, kinds[0], frozenset(fields[5].split(",")))
    return sorted(found.values(), key=lambda mount: mount.folder.rstrip("/").count("/"))


def _unescaped(text: str) -> str:
    """Blanks and the like stand as octal numbers."""
    return re.sub(r"\\([0-7]{3})", lambda found: chr(int(found[1], 8)), text)


def is_within(path: str, folder: str) -> bool:
    """Whether `path` is `folder` or lies in it."""
    return path == folder or path.startswith(folder.rstrip("/") + "/")


def is_system(path: str) -> bool:
    """Whether it belongs to the system; shared memory does not."""
    return any(is_within(path, one) for one in SYSTEM) and not is_within(path, "/dev/shm")


def writable_folders(named: Iterable[str], root: str = "/") -> list[str]:
    """The outermost folders below the root in which this user may write.

    Args:
        named: Folders that are looked at even if they lie deep.
        root: Where the search begins.
    """
    found: list[str] = []
    left = MOST_FOLDERS
    level = [root]
    for _ in range(DEPTH):
        inner = [child for folder in level for child in subfolders(folder)][:left]
        left -= len(inner)
        writable = [folder for folder in inner if _may_write(folder)]
        found += writable
        level = sorted(set(inner) - set(writable))
    for path in named:
        if not any(is_within(os.path.realpath(path), one) for one in found):
            found += _outermost_writable(os.path.realpath(path))
    return found


def subfolders(folder: str) -> list[str]:
    """Folders in it that are no links; none where it cannot be read."""
    try:
        with os.scandir(folder) as entries:
            found = [entry.path for entry in entries if entry.is_dir(follow_symlinks=False)]
    except OSError:
        return []
    return sorted(path for path in found if not is_system(path))


def _outermost_writable(path: str) -> Sequence[str]:
    parts = path.split("/")
    ancestors = ["/".join(parts[:count]) for count in range(2, len(parts) + 1)]
    return [one for one in ancestors if os.path.isdir(one) and _may_write(one)][:1]


def _may_write(folder: str) -> bool:
    return os.access(folder, os.W_OK | os.X_OK)


def parse_sockets(text: str) -> list[str]:
    """Paths of the sockets in /proc/net/unix."""
    lines = (line.split(None, 7) for line in text.splitlines()[1:])
    return sorted({line[7] for line in lines if len(line) == 8 and line[7].startswith("/")})
