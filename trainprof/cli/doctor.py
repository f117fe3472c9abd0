"""`trainprof doctor`: what each collector can and cannot see here, and the remedy."""

from __future__ import annotations

import dataclasses
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from io import StringIO
from pathlib import Path
from typing import TYPE_CHECKING

import click
import msgspec

from trainprof import __version__
from trainprof.profiler.launch import target_python
from trainprof.profiler.store.layout import RUNS_FOLDER

if TYPE_CHECKING:
    from trainprof.profiler.samplers.checks import Check

SCHEMA = 1
WIDTH_MAX = 80
TARGET_WAIT_S = 60.0
"""Importing torch from a slow network file system takes tens of seconds."""

OLDEST_PYTHON = (3, 10)

LABELS = {"ok": "ok", "partial": "partial", "missing": "MISSING"}
STYLES = {"ok": "green", "partial": "yellow", "missing": "bold red"}

REPORT = """\
import json, sys
report = {"python": list(sys.version_info[:3])}
try:
    import torch
    report["torch"] = str(torch.__version__)
    report["cuda"] = torch.version.cuda
    report["gpus"] = torch.cuda.device_count()
except (ImportError, OSError, RuntimeError) as error:
    report["error"] = str(error)
print(json.dumps(report))
"""
"""What the training's interpreter is asked; it parses on every Python."""


class Target(msgspec.Struct, frozen=True):
    """What an interpreter says of itself."""

    python: tuple[int, int, int]
    torch: str | None = None
    cuda: str | None = None
    gpus: int | None = None
    error: str | None = None


@click.command()
@click.option("--python", "python", metavar="PATH", help="Interpreter that runs your training.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text")
def doctor(python: str | None, style: str) -> None:
    """Says what trainprof can and cannot see on this machine, and the remedy.

    It looks once with everything that a run measures with, asks the training's Python for its
    torch, and changes nothing.
    """
    from trainprof.profiler.samplers.checks import check_machine

    checks = [*check_machine(), check_target(python or target_python()), check_folder(Path.cwd())]
    if style == "json":
        click.echo(json.dumps(as_json(checks), indent=2, ensure_ascii=False))
    else:
        _print(checks)


def check_target(python: str, wait_s: float = TARGET_WAIT_S) -> Check:
    """Which Python would run the training, and which torch it has."""
    from trainprof.profiler.samplers.checks import Check

    report = _ask(python, wait_s)
    if isinstance(report, str):
        remedy = "Name the training's interpreter: trainprof doctor --python PATH."
        return Check("target", "missing", f"{python} {report}.", remedy)
    version = ".".join(str(part) for part in report.python)
    if report.python < OLDEST_PYTHON:
        seen = f"{python} is Python {version}: it will run, but no step will be seen."
        return Check("target", "missing", seen, "Train with Python 3.10 or newer.")
    if report.torch is None:
        why = f"cannot import torch ({report.error})"
        remedy = "Install torch there, or name another interpreter with --python PATH."
        return Check("target", "missing", f"{python} (Python {version}) {why}.", remedy)
    cuda = f"for CUDA {report.cuda}, sees {report.gpus} GPUs" if report.cuda else "without CUDA"
    seen = f"{python}: Python {version}, torch {report.torch} {cuda}."
    return Check("target", "ok", seen)


def check_folder(folder: Path) -> Check:
    """Whether runs can be recorded below `folder`."""
    from trainprof.profiler.samplers.checks import Check

    runs = folder / RUNS_FOLDER
    place = runs if runs.is_dir() else folder
    try:
        with tempfile.TemporaryFile(dir=place):
            pass
        free = os.statvfs(place)
    except OSError as error:
        seen = f"{place} cannot be written ({error.strerror})."
        return Check("run folder", "missing", seen, "Record elsewhere: trainprof run --out DIR.")
    free_gib = free.f_bavail * free.f_frsize / 2**30
    return Check("run folder", "ok", f"Runs can be recorded here; {free_gib:.3g} GiB are free.")


def as_json(checks: Sequence[Check]) -> dict[str, object]:
    """One object; `remedy` is null where nothing need be done."""
    from trainprof.profiler.samplers.hardware import read_hardware

    return {
        "schema": SCHEMA,
        "trainprof": __version__,
        "platform": sys.platform,
        "checks": [dataclasses.asdict(check) for check in checks],
        "hardware": dataclasses.asdict(read_hardware()),
    }


def _ask(python: str, wait_s: float) -> Target | str:
    """The interpreter's report, or why there is none, as the rest of a sentence."""
    try:
        answer = subprocess.run(
            [python, "-c", REPORT], stdin=subprocess.DEVNULL, capture_output=True, timeout=wait_s
        )
    except OSError as error:
        return f"cannot be started ({error.strerror})"
    except subprocess.TimeoutExpired:
        return f"did not answer within {wait_s:g} s"
    lines = answer.stdout.splitlines()  # a sitecustomize may have printed before
    try:
        return msgspec.json.decode(lines[-1] if lines else b"", type=Target)
    except msgspec.MsgspecError:
        said = answer.stderr.decode("utf-8", "replace").splitlines()
        return f"is no working Python ({said[-1] if said else 'it said nothing'})"


def _print(checks: Sequence[Check]) -> None:
    from trainprof.reports.terminal import is_styled, terminal_width, write_text

    width = min(WIDTH_MAX, terminal_width(sys.stdout))
    write_text(as_text(checks, width, is_styled(sys.stdout)), sys.stdout)


def as_text(checks: Sequence[Check], width: int, styled: bool) -> str:
    """One row per check, its remedy below it, and a sentence that sums up."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    from trainprof.reports.text import printable

    buffer = StringIO()
    console = Console(
        file=buffer,
        width=width,
        force_terminal=styled,
        color_system="standard" if styled else None,
        highlight=False,
        markup=False,
        legacy_windows=False,
    )
    table = Table(box=None, pad_edge=False, show_header=False)
    for check in checks:
        body = Text(printable(check.seen))
        if check.remedy:
            body.append(f"\n-> {printable(check.remedy)}", style="italic")
        label = Text(LABELS[check.status], style=STYLES[check.status])
        table.add_row(label, Text(check.name, no_wrap=True), body)
    console.print(table)
    console.print()
    console.print(Text(_summary(checks)))
    return "".join(f"{line.rstrip()}\n" for line in buffer.getvalue().splitlines())


def _summary(checks: Sequence[Check]) -> str:
    lacking = [check.name for check in checks if check.status != "ok"]
    if not lacking:
        return "Everything can be measured here."
    well = len(checks) - len(lacking)
    return f"{well} of {len(checks)} are as they should be; see {', '.join(lacking)}."
