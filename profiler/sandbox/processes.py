"""Runs a command to its end, and then ends all that it has started and left behind."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Sequence
from types import FrameType

import psutil

PR_SET_PDEATHSIG, PR_SET_CHILD_SUBREAPER = 1, 36
ENDING = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
"""Signals that ask for an end."""


class Stopped(BaseException):
    """Whoever started us wants an end, or is gone."""


def adopt(parent: int) -> None:
    """Orphans among the descendants become children of this process; it ends with its parent.

    Args:
        parent: Process that started this one.

    Raises:
        Stopped: it is gone already.
    """
    for number in ENDING:
        signal.signal(number, _stop)
    if sys.platform.startswith("linux"):
        libc = ctypes.CDLL(None)
        libc.prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        libc.prctl(PR_SET_PDEATHSIG, signal.SIGTERM, 0, 0, 0)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, ENDING)
    if os.getppid() != parent:
        raise Stopped


def run_plainly(command: Sequence[str]) -> int:
    """The status of the command as subprocess gives it."""
    return subprocess.Popen(list(command)).wait()


def run_alone(command: Sequence[str], run: Callable[[Sequence[str]], int] = run_plainly) -> int:
    """The exit status of the command; 128 + n where signal n ended it. Nothing of it is left.

    Args:
        command: Arguments of the program.
        run: Starts it and gives its status as subprocess does.

    Raises:
        Stopped: a signal came first.
    """
    try:
        status = run(command)
    finally:
        end_descendants()
    return status if status >= 0 else 128 - status


def end_descendants() -> None:
    """Kills every process below this one, until there is none."""
    for number in ENDING:
        signal.signal(number, signal.SIG_IGN)
    while True:
        left = [one for one in psutil.Process().children(recursive=True) if _alive(one)]
        for one in left:
            try:
                one.kill()
            except psutil.Error:
                continue
        _reap()
        if not left:
            return
        psutil.wait_procs(left, timeout=0.2)


def _alive(process: psutil.Process) -> bool:
    try:
        return bool(process.status() != psutil.STATUS_ZOMBIE)
    except psutil.Error:
        return False


def _reap() -> None:
    while True:
        try:
            pid, _ = os.waitpid(-1, os.WNOHANG)
        except ChildProcessError:
            return
        if pid == 0:
            return


def _stop(number: int, frame: FrameType | None) -> None:
    raise Stopped
