"""What happens in every Python of the run before its script: little, and without torch.

Leaves a `proc.json`, so that a run without steps can say which Pythons ran, and waits for the
import of torch. Imports as little as possible: a script that starts a thousand Pythons pays this
a thousand times.
"""

from __future__ import annotations

import os
import sys
import time
from importlib.machinery import ModuleSpec
from typing import Any

from .imports import watch


class _StubFinder:
    """Last on sys.meta_path: offers `import trainprof` where trainprof is not installed."""

    def find_spec(self, name: str, path: Any = None, target: Any = None) -> ModuleSpec | None:
        if name != "trainprof":
            return None
        from importlib.util import spec_from_file_location

        from . import public

        return spec_from_file_location("trainprof", public.__file__)


def boot(run: str) -> None:
    """Starts watching for torch; leaves this process's first `proc.json` in the run folder."""
    started_ns = time.perf_counter_ns()
    folder = process_folder(run, started_ns)
    try:
        os.makedirs(folder, exist_ok=True)
        _write_first_info(folder, started_ns)
    except OSError:
        return  # the supervisor checked that the folder can be written; it is gone or full now
    _state.update(folder=folder, started_ns=started_ns, run=run)
    watch("torch", arm)
    sys.meta_path.append(_StubFinder())


_state: dict[str, Any] = {}


def arm(torch: Any) -> None:
    """Loads the agent into a process that has just imported torch. Never raises."""
    from . import guard

    def start() -> None:
        from .agent import Agent

        Agent(torch, _state["run"], _state["folder"], _state["started_ns"]).arm()

    guard.attempt("agent", start)
    for collector, _, error in guard.failures:
        if collector == "agent":
            sys.stderr.write(f"trainprof: not active in this process: {error}\n")


def process_folder(run: str, started_ns: int) -> str:
    """`procs/<host>-<pid>-<start_ns>` of this process."""
    host = os.uname().nodename.partition(".")[0]
    return os.path.join(run, "procs", f"{host}-{os.getpid()}-{started_ns}")


def command(argv: list[str]) -> list[str]:
    """The interpreter, its options and the script; its arguments may hold secrets."""
    command = argv[:1]
    for index, argument in enumerate(argv[1:], start=1):
        command.append(argument)
        if argument in ("-m", "-c"):
            return command + (argv[index + 1 : index + 2] if argument == "-m" else [])
        takes_value = argv[index - 1] in ("-X", "-W")
        if not argument.startswith("-") and not takes_value:
            break
    return command


def _write_first_info(folder: str, started_ns: int) -> None:
    # By hand: importing json costs more than all the rest of the boot.
    from _json import encode_basestring_ascii

    def quote(text: str) -> str:
        """Names that are no UTF-8 hold surrogates, which no reader takes."""
        return encode_basestring_ascii(text.encode("utf-8", "replace").decode())

    argv = ", ".join(quote(argument) for argument in command(sys.orig_argv))
    version = ".".join(map(str, sys.version_info[:3]))
    text = (
        f'{{"pid": {os.getpid()}, "parent_pid": {os.getppid()}, '
        f'"host": {quote(os.uname().nodename)}, "role": "python", "argv": [{argv}], '
        f'"started_ns": {started_ns}, "python": "{version}", '
        f'"executable": {quote(sys.executable or "")}, '
        f'"clock": {{"unix_s": {time.time():.6f}, "perf_ns": {started_ns}}}}}\n'
    )
    path = os.path.join(folder, "proc.json")
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o644)
    try:
        os.write(descriptor, text.encode())
    finally:
        os.close(descriptor)
