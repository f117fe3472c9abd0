"""Runs a command such that what it writes into some folders is gone afterwards.

    python -m trainprof.profiler.sandbox SPEC.json

A mount namespace of its own shows the folders through an overlay: reads come from the real files,
writes go to a scratch folder. Patching `open` would not do: torch.save, safetensors and SQLite
write from native code. One folder, that of the records, is let through.

Needs Linux and the right to make a namespace: root, or unprivileged user namespaces (kernel 5.11).
"""

from __future__ import annotations

import ctypes
import json
import os
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 4096, 16384, 1 << 18
PROBE_S = 20.0


class SandboxError(OSError):
    """The system does not allow it; the message says what it refused."""


@dataclass(frozen=True, slots=True)
class Spec:
    """What to run, and where nothing may stay.

    Attributes:
        folders: Whose changes are dropped. kept: Folder whose changes stay, inside of them or not.
        scratch: An empty folder outside of them, for what is written meanwhile.
        command: Arguments of the program.
    """

    folders: tuple[str, ...]
    kept: str
    scratch: str
    command: tuple[str, ...]


def sandboxed(spec: Spec) -> list[str]:
    """The command that runs `spec.command` inside; writes the spec into the scratch folder."""
    path = Path(spec.scratch) / "spec.json"
    path.write_text(json.dumps(asdict(spec)), encoding="utf-8")
    return [sys.executable, "-m", "trainprof.profiler.sandbox", str(path)]


def why_unavailable(scratch: Path) -> str | None:
    """Tries it once in a scratch folder; None if it works, else the sentence that failed."""
    folder, kept, inner = scratch / "probe", scratch / "probe-kept", scratch / "probe-scratch"
    for one in (folder, kept, inner):
        one.mkdir(parents=True, exist_ok=True)
    spec = Spec((str(folder),), str(kept), str(inner), ("touch", str(folder / "mark")))
    try:
        done = subprocess.run(
            sandboxed(spec), capture_output=True, text=True, timeout=PROBE_S, check=False
        )
    except (OSError, subprocess.TimeoutExpired) as error:
        return str(error)
    if (folder / "mark").exists():
        return "what was written did stay"
    return None if done.returncode == 0 else done.stderr.strip()[-200:] or "it failed"


def enter(spec: Spec) -> None:
    """Moves this process into the namespace.

    Raises:
        SandboxError: the system refuses one of the steps.
    """
    libc = ctypes.CDLL(None, use_errno=True)
    uid, gid = os.getuid(), os.getgid()
    flags = CLONE_NEWNS if uid == 0 else CLONE_NEWNS | CLONE_NEWUSER
    if libc.unshare(flags) != 0:
        raise _refused("a mount namespace")
    if uid != 0:
        _write("/proc/self/setgroups", "deny")
        _write("/proc/self/uid_map", f"{uid} {uid} 1")
        _write("/proc/self/gid_map", f"{gid} {gid} 1")
    _mount(libc, "none", "/", "", MS_REC | MS_PRIVATE)
    scratch = Path(spec.scratch)
    kept = os.open(spec.kept, os.O_PATH | os.O_DIRECTORY)  # the real one, below any overlay
    for number, folder in enumerate(_outermost(spec.folders)):
        upper, work = scratch / f"upper{number}", scratch / f"work{number}"
        upper.mkdir(exist_ok=True)
        work.mkdir(exist_ok=True)
        options = f"lowerdir={_escaped(folder)},upperdir={upper},workdir={work}"
        _mount(libc, "overlay", folder, "overlay", 0, options)
    _mount(libc, f"/proc/self/fd/{kept}", spec.kept, "", MS_BIND)
    os.close(kept)


def _outermost(folders: Sequence[str]) -> list[str]:
    """Without those that lie in another one."""
    paths = sorted({os.path.realpath(folder) for folder in folders}, key=len)
    kept: list[str] = []
    for path in paths:
        if not any(path == one or path.startswith(one.rstrip("/") + "/") for one in kept):
            kept.append(path)
    return kept


def _escaped(folder: str) -> str:
    return folder.replace("\\", "\\\\").replace(":", "\\:").replace(",", "\\,")


def _mount(
    libc: ctypes.CDLL, source: str, target: str, kind: str, flags: int, options: str = ""
) -> None:
    texts = [os.fsencode(text) if text else None for text in (source, target, kind)]
    if libc.mount(*texts, ctypes.c_ulong(flags), os.fsencode(options) if options else None) != 0:
        raise _refused(f"a mount on {target}")


def _refused(what: str) -> SandboxError:
    number = ctypes.get_errno()
    return SandboxError(number, f"the system refused {what} ({os.strerror(number)})")


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="ascii") as file:
        file.write(text)


def main(arguments: Sequence[str]) -> None:
    """Enters and becomes the command."""
    fields = json.loads(Path(arguments[0]).read_text(encoding="utf-8"))
    folders, command = tuple(fields["folders"]), tuple(fields["command"])
    spec = Spec(folders, fields["kept"], fields["scratch"], command)
    here = os.getcwd()
    try:
        enter(spec)
    except OSError as error:
        sys.stderr.write(f"trainprof: no trial without traces is possible here: {error.strerror}\n")
        sys.exit(125)
    os.chdir(here)  # the working directory of before lies below the overlay
    os.execvp(spec.command[0], list(spec.command))


if __name__ == "__main__":
    main(sys.argv[1:])
