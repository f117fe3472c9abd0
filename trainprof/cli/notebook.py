"""`%%trainprof` in a notebook: the cell is a training script of its own, run by `trainprof run`.

The cell runs in a process of its own, as the script would: the notebook stays as it was, and a
training that is measured shares its process with nothing else. Nothing of IPython is imported.
"""

from __future__ import annotations

import codecs
import hashlib
import os
import shlex
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, Any

import click

from trainprof.cli.run import run
from trainprof.errors import TrainprofError, UsageError
from trainprof.profiler.store.layout import RUNS_FOLDER

CELLS_FOLDER = Path(RUNS_FOLDER, "cells")
"""Where the cells lie that were run, so that a finding can show its line later too."""

UNCAUGHT = 1
"""Exit status of a Python that an exception has ended."""

FAILED = (
    "trainprof: the cell failed. It runs in a process of its own: what other cells have imported, "
    "defined or loaded is not there."
)


def register(shell: Any) -> None:
    """Gives `shell`, an IPython InteractiveShell, the cell magic `%%trainprof`."""
    shell.register_magic_function(trainprof_cell, magic_kind="cell", magic_name="trainprof")


def trainprof_cell(line: str, cell: str) -> None:
    """Run the cell as a training script under `trainprof run`, and show the verdict.

    `%%trainprof [OPTIONS OF trainprof run] [-- ARGUMENTS OF THE SCRIPT]`, as in
    `%%trainprof --steps 200 -- --lr 0.1`. The cell is a script of its own: it has the notebook's
    working directory and environment variables, and nothing that other cells have defined.
    """
    try:
        _check(cell)
        options, arguments = _split(line)
        script = _script_of(cell)
        _check_options(options, script)
        _write(script, cell)
        status = _run([*options, "--", str(script), *arguments])
    except click.exceptions.Exit:  # --help has been printed
        return
    except click.ClickException as error:
        print(f"trainprof: {error.format_message().rstrip('.')}; `%%trainprof?` says how.")
        return
    except TrainprofError as error:
        print(f"trainprof: {error}")
        return
    if status == UNCAUGHT:
        print(FAILED)


def _check(cell: str) -> None:
    try:
        compile(cell, "the cell", "exec")
    except (SyntaxError, ValueError) as error:  # ValueError: a null byte
        line = getattr(error, "lineno", None) or 1
        raise UsageError(
            f"line {line} of the cell is not Python ({getattr(error, 'msg', error)}); a cell under "
            "%%trainprof is a plain script, so put lines such as `%matplotlib` or `!pip` elsewhere."
        ) from None


def _script_of(cell: str) -> Path:
    """One file for one text, so that a later cell never changes what a run's findings point at."""
    return CELLS_FOLDER / f"cell-{hashlib.sha256(cell.encode()).hexdigest()[:8]}.py"


def _write(script: Path, cell: str) -> None:
    try:
        CELLS_FOLDER.mkdir(parents=True, exist_ok=True)
        script.write_text(cell, encoding="utf-8")
    except OSError as error:
        raise UsageError(
            f"the cell cannot be written to {script} ({error.strerror}); "
            "change to a folder that can be written, as with %cd."
        ) from None


def _split(line: str) -> tuple[list[str], list[str]]:
    """Options of `run`, arguments of the script."""
    try:
        words = shlex.split(line)
    except ValueError as error:
        raise UsageError(f"%%trainprof {line} cannot be read ({error}).") from None
    if "--" not in words:
        return words, []
    place = words.index("--")
    return words[:place], words[place + 1 :]


def _check_options(options: list[str], script: Path) -> None:
    context = run.make_context("%%trainprof", [*options, "--", str(script)])
    command = context.params["command"]
    if command != (str(script),):
        raise UsageError(
            f"{command[0]} is no option of `trainprof run`; arguments of the cell's script follow "
            "--, as in %%trainprof --steps 200 -- --lr 0.1"
        )


def _run(arguments: list[str]) -> int:
    """Runs it, shows what it prints as it comes, and gives its exit status.

    Where the cell is interrupted, the training is, and its diagnosis still follows; a second
    interrupt ends both.
    """
    process = subprocess.Popen(
        [sys.executable, "-m", "trainprof", "run", *arguments],
        env=_environment(),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,  # an interrupt of the kernel reaches it once, and through us
    )
    assert process.stdout is not None
    try:
        _show(process.stdout)
    except KeyboardInterrupt:
        os.killpg(process.pid, signal.SIGINT)  # as a terminal does: to the training too
        try:
            _show(process.stdout)
        except KeyboardInterrupt:
            os.killpg(process.pid, signal.SIGKILL)
    process.stdout.close()
    return process.wait()


def _show(stream: IO[bytes]) -> None:
    """Writes what comes to the cell's output, part by part: progress bars end no lines."""
    decoder = codecs.getincrementaldecoder("utf-8")(errors="replace")
    while part := os.read(stream.fileno(), 65536):
        sys.stdout.write(decoder.decode(part))
        sys.stdout.flush()
    sys.stdout.write(decoder.decode(b"", final=True))


def _environment() -> dict[str, str]:
    """With the working directory first on the path, where the notebook finds its modules too."""
    before = os.environ.get("PYTHONPATH")
    path = os.getcwd() if not before else os.getcwd() + os.pathsep + before
    return {**os.environ, "PYTHONPATH": path, "PYTHONUNBUFFERED": "1"}
