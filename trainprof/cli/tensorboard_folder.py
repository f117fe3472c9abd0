"""A recorded run as a folder of TensorBoard's."""

from __future__ import annotations

import re
from pathlib import Path

import click

from trainprof.cli.settings import Settings
from trainprof.errors import TrainprofError, UsageError


def folder_of(out: Path, run: Path) -> Path:
    """The run's own folder in that of TensorBoard.

    Raises:
        UsageError: `out` is a file.
    """
    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name the folder that TensorBoard is to show.")
    return out / (re.sub(r"[^\w.-]+", "-", run.resolve().name) or "run")


def export_tensorboard(run: str | None, out: Path, settings: Settings) -> None:
    """Writes a run, and the trials where it is a tune.

    Raises:
        MissingExtraError: TensorBoard is not installed.
        UsageError: `out` cannot be written.
        RunFolderError: there is no such run, or what the tune found cannot be read.
    """
    from trainprof.cli.judgement import judge
    from trainprof.profiler.store.folder import run_inside
    from trainprof.profiler.store.reader import read_run, resolve_run
    from trainprof.profiler.store.tune_result import read_tune
    from trainprof.reports.tensorboard.run_events import write_run

    chosen = resolve_run(run)
    folder = folder_of(out, chosen)
    inside = run_inside(chosen)
    diagnosis = judge(inside, settings)
    try:
        write_run(folder, read_run(inside), diagnosis, read_tune(chosen))
    except OSError as error:
        raise TrainprofError(
            f"{folder} cannot be written ({error.strerror}); name another with --out."
        ) from None
    click.echo(f"{folder} is written; `tensorboard --logdir {out}` shows it.", err=True)
