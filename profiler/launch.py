"""Starts a command under the agent, stands by while it runs, and reports how it ended.

The child inherits stdin, stdout, stderr and the terminal; trainprof reads none of them and prints
nothing meanwhile. Only the environment tells the child's Pythons to load the agent.
"""

from __future__ import annotations

import codecs
import fcntl
import json
import os
import shutil
import signal
import subprocess
import sys
import termios
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from types import FrameType

from trainprof.errors import UsageError

HOME = Path(__file__).resolve().parent.parent / "trainprof"
SECOND_INTERRUPT_S = 2.0
STOP_GRACE_S = 10.0


@dataclass(frozen=True, slots=True)
class Ending:
    """How the command ended.

    Attributes:
        exit_status: Its own status; 128 + n when signal n ended it.
        signal: Name of that signal, else None.
        interrupted: The user pressed Ctrl-C, or somebody sent SIGINT.
    """

    exit_status: int
    signal: str | None
    interrupted: bool


def home() -> Path:
    """The folder of the package `trainprof`, in a checkout or installed."""
    package = find_spec("trainprof")
    if package is not None and package.submodule_search_locations:
        return Path(next(iter(package.submodule_search_locations)))
    return HOME


def resolve_command(command: Sequence[str]) -> list[str]:
    """The command as it will be started: `train.py args` gets an interpreter in front.

    Raises:
        UsageError: there is no such script or program, or the file is not a Python script.
    """
    first, *rest = command
    path = Path(first)
    if path.suffix == ".pyc" and path.is_file():
        return [target_python(), first, *rest]
    if first.endswith(".py") or (path.is_file() and not os.access(path, os.X_OK)):
        _check_script(path)
        return [target_python(), first, *rest]
    if shutil.which(first) is None:
        if path.is_dir():
            raise UsageError(f"{first} is a folder; name the training script inside it.")
        raise UsageError(
            f"there is no program or script called {first}; check the spelling, or put the path of "
            "your training script after `trainprof run`."
        )
    return [first, *rest]


def _check_script(path: Path) -> None:
    if not path.exists():
        raise UsageError(f"there is no script {path}; check the path.")
    if path.is_dir():
        raise UsageError(f"{path} is a folder; name the training script inside it.")
    try:
        with path.open("rb") as file:
            head = file.read(4096)
    except OSError as error:
        raise UsageError(f"the script {path} cannot be read ({error.strerror}).") from None
    if head.startswith((codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE)):
        raise UsageError(
            f"the script {path} is saved as UTF-16, which Python does not read; save it as UTF-8."
        )
    if b"\0" in head or not (path.suffix in (".py", ".pyw") or head.startswith(b"#!")):
        raise UsageError(
            f"{path} is not a Python script; put the program that runs it in front, as in "
            f"`trainprof run -- bash {path}`."
        )


def target_python() -> str:
    """The interpreter for a bare script: ours if it has torch, else the first on PATH."""
    if find_spec("torch") is not None:
        return sys.executable
    return shutil.which("python") or shutil.which("python3") or sys.executable


def child_environment(
    environ: Mapping[str, str],
    run_folder: Path,
    steps: int | None = None,
    probe: bool = False,
    plan: Path | None = None,
    third_party: Mapping[str, tuple[str, str]] | None = None,
) -> dict[str, str]:
    """The environment that makes every Python of the command load the agent.

    With `probe` the agent copies the training's data set into the run folder; `plan` names the
    fixes that it applies, `third_party` the file and the class of those that other packages bring.
    """
    package = home()
    bootstrap = str(package / "profiler" / "agent" / "bootstrap")
    child = dict(environ)
    before = child.get("PYTHONPATH")
    child["PYTHONPATH"] = f"{bootstrap}{os.pathsep}{before}" if before else bootstrap
    child["TRAINPROF_HOME"] = str(package)
    child["TRAINPROF_RUN"] = str(run_folder.resolve())
    if steps is not None:
        child["TRAINPROF_STEPS"] = str(steps)
    child["TRAINPROF_PROBE"] = "1" if probe else "0"
    child.pop("TRAINPROF_PLAN", None)
    if plan is not None:
        child["TRAINPROF_PLAN"] = str(plan.resolve())
    child.pop("TRAINPROF_FIXES", None)
    if third_party:
        child["TRAINPROF_FIXES"] = json.dumps(third_party)
    return child


class Child:
    """The user's command while it runs."""

    def __init__(
        self,
        command: Sequence[str],
        environment: Mapping[str, str],
        terminal: int | None = None,
    ) -> None:
        """Starts it.

        Args:
            command: What to start, and its arguments.
            environment: All variables that it gets.
            terminal: Descriptor of a terminal of its own, where ours is not to be shared: it is its
                stdout and stderr, and sends it signals; its stdin is empty.

        Raises:
            UsageError: the program cannot be executed.
        """
        self.interrupted = False
        self._interruptible = False
        self._shares_terminal = terminal is None
        self._last_interrupt = 0.0
        self._previous = {
            number: signal.signal(number, self._on_signal)
            for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
            if signal.getsignal(number) is not signal.SIG_IGN
        }
        try:
            self._process = subprocess.Popen(
                list(command),
                env=dict(environment),
                restore_signals=True,
                close_fds=True,
                stdin=None if terminal is None else subprocess.DEVNULL,
                stdout=terminal,
                stderr=terminal,
                start_new_session=terminal is not None,
                preexec_fn=None if terminal is None else _take_terminal,
            )
        except OSError as error:
            self.release()
            raise UsageError(f"{command[0]} cannot be started ({error.strerror}).") from None

    @property
    def pid(self) -> int:
        """Process id of the command."""
        return self._process.pid

    def wait(self) -> Ending:
        """Waits for its end, however long that takes; signals do nothing from then on."""
        status = self._process.wait()
        if status < 0:
            try:
                name = signal.Signals(-status).name
            except ValueError:
                name = f"signal {-status}"
            return Ending(128 - status, name, self.interrupted)
        return Ending(status, None, self.interrupted)

    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self._process.poll() is None

    def wait_at_most(self, seconds: float) -> bool:
        """Waits up to `seconds`; True when it has ended."""
        try:
            self._process.wait(seconds)
        except subprocess.TimeoutExpired:
            return False
        return True

    def terminate_tree(self, number: int) -> None:
        """Sends a signal to the command and everything it has started."""
        import psutil

        try:
            tree = [*psutil.Process(self.pid).children(recursive=True), psutil.Process(self.pid)]
        except psutil.NoSuchProcess:
            return
        for process in tree:
            try:
                process.send_signal(number)
            except psutil.Error:
                continue

    @contextmanager
    def interruptible(self) -> Iterator[None]:
        """Inside, once it has ended, the first interrupt raises KeyboardInterrupt; a SIGTERM kills.

        No second interrupt raises, or what minds the first could be interrupted itself.
        """
        self._interruptible = True
        try:
            yield
        finally:
            self._interruptible = False

    def release(self) -> None:
        """Puts our own signal handlers back as they were."""
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}

    def _on_signal(self, number: int, frame: FrameType | None) -> None:
        if self._process.returncode is not None:
            self._after_the_end(number)
        elif number == signal.SIGINT:
            # From a terminal the child has it already: both are in the foreground group.
            now = time.monotonic()
            if self.interrupted and now - self._last_interrupt < SECOND_INTERRUPT_S:
                self._process.kill()
            elif not self._shares_terminal:
                os.killpg(self._process.pid, number)  # as a terminal does: its whole group
            elif not _from_terminal():
                self._process.send_signal(number)
            self.interrupted, self._last_interrupt = True, now
        else:
            self._process.send_signal(number)

    def _after_the_end(self, number: int) -> None:
        """Nothing: it was meant for the command, and what that left is put in order."""
        if not self._interruptible:
            return
        if number == signal.SIGINT:
            self._interruptible = False
            raise KeyboardInterrupt
        signal.signal(number, signal.SIG_DFL)
        os.kill(os.getpid(), number)


def _take_terminal() -> None:
    """In the new process: its stdout is the terminal that its session belongs to."""
    fcntl.ioctl(1, termios.TIOCSCTTY, 0)


def _from_terminal() -> bool:
    """Whether we are in the foreground group of a terminal, which signals the whole group."""
    try:
        terminal = os.open("/dev/tty", os.O_RDONLY)
    except OSError:
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
