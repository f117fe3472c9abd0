"""Runs a sandboxed command from outside, and has it ended where it takes too long."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Mapping, Sequence
from pathlib import Path

import psutil

from trainprof.profiler.sandbox.processes import ENDING

TIDY_S = 120.0
"""For the sandbox to end what runs in it, and to put files back."""


def run_watched(
    command: Sequence[str], output: Path, patience_s: float, environment: Mapping[str, str] = {}
) -> int | None:
    """The exit status of the command; None where it was ended because it took too long.

    Args:
        command: Of `sandboxed`.
        output: File for stdout and stderr.
        patience_s: Seconds that it may take.
        environment: Variables that differ from ours.
    """
    with output.open("wb") as file:
        # No signal may come between the start and the moment when somebody waits for the end; the
        # sandbox lets them in again.
        before = signal.pthread_sigmask(signal.SIG_BLOCK, ENDING)
        try:
            process = subprocess.Popen(
                list(command),
                env={**os.environ, **environment},
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except BaseException:
            signal.pthread_sigmask(signal.SIG_SETMASK, before)
            raise
    try:
        signal.pthread_sigmask(signal.SIG_SETMASK, before)
        return process.wait(patience_s)
    except subprocess.TimeoutExpired:
        _end(process)
        return None
    except BaseException:
        _end(process)
        raise


def _end(process: subprocess.Popen[bytes]) -> None:
    """Asks the sandbox to end all that runs in it and to tidy up; ends it by force otherwise."""
    process.terminate()
    try:
        process.wait(TIDY_S)
    except subprocess.TimeoutExpired:
        tree = psutil.Process(process.pid).children(recursive=True)
        for one in [psutil.Process(process.pid), *tree]:
            try:
                one.kill()
            except psutil.Error:
                continue
        process.wait()
