"""`trainprof runs`: lists the recorded runs, and deletes old ones."""

from __future__ import annotations

import json
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import click

from trainprof.errors import RunFolderError, UsageError
from trainprof.profiler.store.layout import RUNS_FOLDER
from trainprof.profiler.store.listing import Glance, glance
from trainprof.profiler.store.reader import RunEntry, find_runs
from trainprof.reports import numbers

SCHEMA = 1
NOTHING = "–"  # noqa: RUF001 - an en dash is what a table shows where there is no value


@dataclass(frozen=True)
class _Row:
    entry: RunEntry
    glance: Glance


@click.command()
@click.option("--base", default=RUNS_FOLDER, show_default=True, help="Folder that holds the runs.")
@click.option("--prune", is_flag=True, help="Delete all but the newest runs (see --keep).")
@click.option("--keep", type=click.IntRange(min=0), help="How many of the ended runs stay.")
@click.option("--yes", is_flag=True, help="Do not ask before deleting.")
@click.option("--format", "style", type=click.Choice(["text", "json"]), default="text")
def runs(base: str, prune: bool, keep: int | None, yes: bool, style: str) -> None:
    """Lists the recorded runs, newest first; --prune --keep N deletes old ones.

    A run that is still going on is never deleted, and neither is a folder whose run.json cannot be
    read.
    """
    if prune != (keep is not None):
        raise UsageError("--prune and --keep N belong together, as in: runs --prune --keep 10")
    rows = [_Row(entry, glance(entry.path)) for entry in find_runs(base)]
    pruned: list[_Row] = []
    if keep is not None:
        pruned = _prune(_prunable(rows, keep), yes)
        rows = [row for row in rows if row not in pruned]
    if style == "json":
        click.echo(json.dumps(_as_json(base, rows, pruned), indent=2))
    else:
        _print_table(base, rows)


def _prunable(rows: list[_Row], keep: int) -> list[_Row]:
    ended = [
        row
        for row in rows
        if row.entry.info is not None
        and row.entry.status != "running"
        and not row.entry.path.is_symlink()
    ]
    return ended[keep:]


def _prune(rows: list[_Row], yes: bool) -> list[_Row]:
    """Deletes the runs after asking, and returns them."""
    if not rows:
        click.echo("There is nothing to delete.", err=True)
        return []
    size = _size(sum(row.glance.disk_bytes for row in rows))
    if not yes:
        if not _is_answerable():
            raise UsageError(f"this would delete {len(rows)} runs ({size}); add --yes to agree.")
        for row in rows:
            click.echo(f"  {row.entry.path}", err=True)
        click.confirm(f"Delete {_runs(len(rows))} ({size})?", abort=True, err=True)
    for row in rows:
        _delete(row.entry.path)
    click.echo(f"Deleted {_runs(len(rows))} ({size}).", err=True)
    return rows


def _is_answerable() -> bool:
    return sys.stdin.isatty()


def _delete(folder: Path) -> None:
    try:
        shutil.rmtree(folder)
    except OSError as error:
        raise RunFolderError(
            f"{folder} could not be deleted wholly ({error.strerror}); check its rights."
        ) from None


def _as_json(base: str, rows: list[_Row], pruned: list[_Row]) -> dict[str, Any]:
    """One object; every null has its reason under `missing`."""
    missing = {}
    for index, row in enumerate(rows):
        if row.glance.steps is None:
            missing[f"runs.{index}.steps"] = "no step was recorded"
            missing[f"runs.{index}.mean_step_s"] = "no step was recorded"
        if row.glance.steady_mean_s is None:
            missing[f"runs.{index}.steady_mean_s"] = "no diagnosis with steady steps is stored"
    return {
        "schema": SCHEMA,
        "base": base,
        "runs": [_run_as_json(row) for row in rows],
        "pruned": [row.entry.path.name for row in pruned],
        "missing": missing,
    }


def _run_as_json(row: _Row) -> dict[str, Any]:
    return {
        "name": row.entry.path.name,
        "path": str(row.entry.path),
        "started_unix_s": row.entry.started_unix_s,
        "status": row.entry.status,
        "steps": row.glance.steps,
        "mean_step_s": row.glance.mean_step_s,
        "steady_mean_s": row.glance.steady_mean_s,
        "disk_bytes": row.glance.disk_bytes,
        "problem": row.entry.problem,
    }


def _print_table(base: str, rows: list[_Row]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    if not rows:
        click.echo(f"There is no run under {base}; record one with: trainprof run train.py")
        return
    # A pipe gets one line per run, however long its name is.
    console = Console(highlight=False, width=None if sys.stdout.isatty() else 200)
    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("run", overflow="fold")
    for title in ("started", "status"):
        table.add_column(title, no_wrap=True)
    for title in ("steps", "mean step", "size"):
        table.add_column(title, no_wrap=True, justify="right")
    for row in rows:
        table.add_row(
            Text(row.entry.path.name),
            time.strftime("%m-%d %H:%M", time.localtime(row.entry.started_unix_s)),
            row.entry.status,
            NOTHING if row.glance.steps is None else f"{row.glance.steps:,}",
            _mean_step(row.glance),
            _size(row.glance.disk_bytes),
        )
    console.print(table)
    if any(row.glance.steady_mean_s is None and row.glance.steps for row in rows):
        console.print("~ all steps; trainprof diagnose RUN gives the mean of the steady ones")
    for row in rows:
        if row.entry.problem is not None:
            console.print(f"{row.entry.path.name}: {row.entry.problem}", markup=False)


def _mean_step(seen: Glance) -> str:
    """Of the steady steps, as the diagnosis says; "~" where only all steps are known."""
    if seen.steady_mean_s is not None:
        return numbers.seconds(seen.steady_mean_s)
    return NOTHING if seen.mean_step_s is None else f"~{numbers.seconds(seen.mean_step_s)}"


def _runs(count: int) -> str:
    return "1 run" if count == 1 else f"{count} runs"


def _size(number_of_bytes: float) -> str:
    for unit in ("B", "kB", "MB", "GB"):
        if number_of_bytes < 1000:
            return f"{number_of_bytes:.3g} {unit}"
        number_of_bytes /= 1000
    return f"{number_of_bytes:.3g} TB"
