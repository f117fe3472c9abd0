"""A mount namespace in which every writable folder is an overlay.

Reads come from the real files, writes go to a scratch folder; what cannot be shown so is read-only.
Patching `open` would not do: torch.save, safetensors and SQLite write from native code. The folder
of the records is let through.

Needs Linux and the right to make a namespace: root, or unprivileged user namespaces (kernel 5.11).
"""

from __future__ import annotations

import ctypes
import os
import stat
import tempfile
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from trainprof.profiler.sandbox.mounts import (
    Mount,
    is_system,
    is_within,
    parse_mounts,
    parse_sockets,
    subfolders,
    writable_folders,
)
from trainprof.profiler.sandbox.spec import Spec

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_RDONLY, MS_REMOUNT, MS_BIND, MS_REC, MS_PRIVATE = 1, 32, 4096, 16384, 1 << 18
OPTIONS = {
    "nosuid": 2,
    "nodev": 4,
    "noexec": 8,
    "noatime": 1024,
    "nodiratime": 2048,
    "relatime": 1 << 21,
}
"""Flags that a user namespace may not drop."""
SOURCE = "trainprof:"
"""Before the kind of file system, where the name of a device stands."""
SHARED_MEMORY = "/dev/shm"
MOST_SOCKETS = 500
MOST_CHILDREN, CHILD_DEPTH = 200, 2
"""Where a folder cannot be an overlay, those in it are."""


class SandboxError(OSError):
    """The system does not allow it; the message says what it refused."""


def enter(spec: Spec) -> None:
    """Moves this process into the namespace.

    Raises:
        SandboxError: the system refuses one of the steps.
    """
    system = _System()
    system.namespace()
    _Overlays(spec, system).mount()


class _System:
    """The calls of the system that Python does not have."""

    def __init__(self) -> None:
        self.is_user_namespace = False
        self._libc = ctypes.CDLL(None, use_errno=True)

    def namespace(self) -> None:
        """A mount namespace of our own; changes do not get out of it."""
        uid, gid = os.getuid(), os.getgid()
        self.is_user_namespace = self._libc.unshare(CLONE_NEWNS) != 0
        if self.is_user_namespace:
            if self._libc.unshare(CLONE_NEWNS | CLONE_NEWUSER) != 0:
                raise _refused("a mount namespace")
            _write("/proc/self/setgroups", "deny")
            _write("/proc/self/uid_map", f"{uid} {uid} 1")
            _write("/proc/self/gid_map", f"{gid} {gid} 1")
        self.mount("none", "/", "", MS_REC | MS_PRIVATE)

    def mount(self, source: str, target: str, kind: str, flags: int, options: str = "") -> None:
        """The system call mount."""
        texts = [os.fsencode(text) if text else None for text in (source, target, kind)]
        data = os.fsencode(options) if options else None
        if self._libc.mount(*texts, ctypes.c_ulong(flags), data) != 0:
            raise _refused(f"a mount on {target}")


@dataclass(frozen=True, slots=True)
class _Below:
    """Something below a covered folder that an overlay would hide: a mount, a socket."""

    path: str
    descriptor: int
    mount: Mount | None


class _Overlays:
    """Covers the folders of one namespace."""

    def __init__(self, spec: Spec, system: _System) -> None:
        self._system = system
        self._spec = spec
        self._mounts = parse_mounts(Path("/proc/self/mountinfo").read_text(encoding="utf-8"))
        self._places = [_opened(one) for one in spec.scratch]
        self._opened: list[int] = list(self._places)
        self._number = 0
        self._covered: list[str] = []

    def mount(self) -> None:
        """All of it. What lies below the folders is opened first, since they hide it."""
        kept = [(path, self._keep_open(path)) for path in self._spec.kept]
        caches = self._caches()
        folders = writable_folders(self._named())
        below = self._below(folders)
        for folder in folders:
            self._cover(folder, CHILD_DEPTH)
        here = os.path.realpath(os.getcwd())
        if os.access(here, os.W_OK) and not any(is_within(here, one) for one in self._covered):
            raise SandboxError(0, f"{here} cannot be shown through an overlay")
        for one in below:
            self._show(one)
        self._shared_memory()
        for path, descriptor in kept:
            self._bind(descriptor, path)
        for number, (folder, lower) in enumerate(caches):
            self._share(folder, lower, number)
        for mount in self._mounts:
            hidden = any(is_within(mount.folder, folder) for folder in self._covered)
            if mount.is_storage and not is_system(mount.folder) and not hidden:
                self._read_only(mount)
        for descriptor in self._opened:
            os.close(descriptor)

    def _named(self) -> Iterable[str]:
        """Folders that count however deep they lie."""
        words = [word.rpartition("=")[2] for word in self._spec.command]
        folders = [word if os.path.isdir(word) else os.path.dirname(word) for word in words]
        return [
            os.getcwd(),
            os.path.expanduser("~"),
            tempfile.gettempdir(),
            *self._spec.kept,
            *(folder for folder in folders if folder and os.path.isdir(folder)),
        ]

    def _keep_open(self, path: str) -> int:
        self._opened.append(_opened(path))
        return self._opened[-1]

    def _below(self, folders: list[str]) -> list[_Below]:
        """Mounts and sockets below the folders, and the pipes of CUDA's multi-process service."""
        paths: dict[str, Mount | None] = {
            mount.folder: mount
            for mount in self._mounts
            if any(mount.folder != one and is_within(mount.folder, one) for one in folders)
        }
        text = Path("/proc/net/unix").read_text(encoding="utf-8", errors="replace")
        sockets = [path for path in parse_sockets(text) if os.path.exists(path)]
        pipes = os.environ.get("CUDA_MPS_PIPE_DIRECTORY", "/tmp/nvidia-mps")
        for path in [pipes, *sockets[:MOST_SOCKETS]]:
            if any(is_within(path, one) for one in folders):
                paths.setdefault(path, None)
        found = []
        for path, mount in paths.items():
            try:
                found.append(_Below(path, self._keep_open(path), mount))
            except OSError:  # another user's: not to be seen before, nor now
                continue
        return found

    def _cover(self, folder: str, depth: int) -> None:
        """Makes it an overlay; where that is refused, what lies in it."""
        try:
            self._overlay(folder, self._keep_open(folder))
        except OSError:
            for child in subfolders(folder)[:MOST_CHILDREN] if depth else ():
                self._cover(child, depth - 1)
        else:
            self._covered.append(folder)

    def _overlay(self, target: str, lower: int) -> None:
        """An overlay on `target`; writes go to the first place that the system accepts.

        Raises:
            SandboxError: it accepts none.
        """
        self._number += 1
        for place in self._places:
            try:
                return self._overlay_in(place, target, lower)
            except SandboxError as error:
                refused = error
        if len(self._places) > len(self._spec.scratch):
            raise refused
        memory = f"/proc/self/fd/{self._places[0]}/memory"
        os.mkdir(memory)
        self._system.mount("tmpfs", memory, "tmpfs", 0, "mode=0700")
        self._places.append(self._keep_open(memory))
        return self._overlay_in(self._places[-1], target, lower)

    def _overlay_in(self, place: int, target: str, lower: int) -> None:
        upper, work = (f"/proc/self/fd/{place}/{name}{self._number}" for name in ("upper", "work"))
        os.mkdir(upper)
        os.mkdir(work)
        try:
            self._mount_overlay(lower, target, upper, work)
        except SandboxError:
            os.rmdir(upper)
            os.rmdir(work)
            raise

    def _mount_overlay(self, lower: int, target: str, upper: str, work: str) -> None:
        status = os.stat(f"/proc/self/fd/{lower}")
        if not self._system.is_user_namespace:
            os.chown(upper, status.st_uid, status.st_gid)
        os.chmod(upper, stat.S_IMODE(status.st_mode))
        options = f"lowerdir=/proc/self/fd/{lower},upperdir={upper},workdir={work}"
        # In a user namespace, folders of before cannot be renamed: the system allows no redirects.
        options += ",userxattr" if self._system.is_user_namespace else ",redirect_dir=on"
        # The name says what lies below: whoever looks for network file systems must see it.
        self._system.mount(SOURCE + self._kind(target), target, "overlay", 0, options)

    def _kind(self, folder: str) -> str:
        """Of the file system that a folder lies on; the mounts stand in order, inner ones last."""
        kinds = [mount.kind for mount in self._mounts if is_within(folder, mount.folder)]
        return kinds[-1] if kinds else "unknown"

    def _show(self, one: _Below) -> None:
        """Shows again what an overlay hides: an overlay too if it is a folder with files."""
        mount = one.mount
        if mount is not None and mount.is_storage and os.path.isdir(one.path):
            if os.access(one.path, os.W_OK) and "ro" not in mount.options:
                try:
                    return self._overlay(one.path, one.descriptor)
                except OSError:
                    pass
            self._bind(one.descriptor, one.path)
            return self._read_only(mount)
        try:
            self._bind(one.descriptor, one.path)
        except OSError:  # gone meanwhile
            return None
        return None if mount is None or not mount.is_storage else self._read_only(mount)

    def _bind(self, descriptor: int, target: str) -> None:
        self._system.mount(f"/proc/self/fd/{descriptor}", target, "", MS_BIND | MS_REC)

    def _read_only(self, mount: Mount) -> None:
        flags = sum(flag for name, flag in OPTIONS.items() if name in mount.options)
        self._system.mount("none", mount.folder, "", MS_REMOUNT | MS_BIND | MS_RDONLY | flags)

    def _caches(self) -> list[tuple[str, int | None]]:
        """The folders of caches, with what is in them now; None where one is yet to be made."""
        paths = [os.path.realpath(path) for path in self._spec.caches]
        return [(path, self._keep_open(path) if os.path.isdir(path) else None) for path in paths]

    def _share(self, folder: str, lower: int | None, number: int) -> None:
        """Lets a cache grow from run to run; where that is refused it starts afresh each time."""
        upper, work = (f"{self._spec.shared}/{name}{number}" for name in ("cache", "work"))
        try:
            os.makedirs(upper, exist_ok=True)
            os.makedirs(work, exist_ok=True)
            os.makedirs(folder, exist_ok=True)
            if lower is None:
                self._bind(self._keep_open(upper), folder)
            else:
                self._mount_overlay(lower, folder, upper, work)
        except OSError:
            return

    def _shared_memory(self) -> None:
        """Of its own, as large as the real one: what is left in it goes with the namespace."""
        if not any(mount.folder == SHARED_MEMORY for mount in self._mounts):
            return
        status = os.statvfs(SHARED_MEMORY)
        lower = self._keep_open(SHARED_MEMORY)
        size = status.f_blocks * status.f_frsize
        self._system.mount("tmpfs", SHARED_MEMORY, "tmpfs", 0, f"mode=1777,size={size}")
        if os.listdir(f"/proc/self/fd/{lower}"):
            place = self._keep_open(SHARED_MEMORY)
            self._number += 1
            self._overlay_in(place, SHARED_MEMORY, lower)
        self._covered.append(SHARED_MEMORY)


def _opened(path: str) -> int:
    return os.open(path, os.O_PATH)


def _refused(what: str) -> SandboxError:
    number = ctypes.get_errno()
    return SandboxError(number, f"the system refused {what} ({os.strerror(number)})")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)
