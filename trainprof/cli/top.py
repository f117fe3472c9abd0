"""`trainprof top`: a run on the screen, while it goes on or afterwards."""

from __future__ import annotations

import sys
from importlib.util import find_spec
from pathlib import Path

import click

from trainprof.errors import MissingExtraError, UsageError


@click.command()
@click.argument("run", required=False)
@click.option("--supervisor", type=int, hidden=True, help="Process id of the `run --tui` it is of.")
@click.option(
    "--calibration/--no-calibration",
    default=True,
    help="Hold predictions against what earlier tunes have measured here (default: yes).",
)
def top(run: str | None, supervisor: int | None, calibration: bool) -> None:
    """Watch a training from another terminal, or look at a finished run.

    RUN is a run folder or its name under trainprof-runs/; the latest by default. The screen shows
    the rate of steps, where their time goes now and did so far, the machine, the loss, events, and
    the findings as they arise. The training is not disturbed: only its run folder is read. Of a
    tune it shows the trial that runs, and what was tried, with what came of it.
    """
    from trainprof.profiler.store.reader import resolve_run

    folder = resolve_run(run)
    check_screen("trainprof top", "`trainprof diagnose` prints the same findings as text")
    show(folder, supervisor, calibration=calibration)


def check_screen(command: str, instead: str) -> None:
    """Raises where there is no terminal to draw on, or textual is not installed.

    Raises:
        UsageError: stdin or stdout is no terminal.
        MissingExtraError: no textual.
    """
    streams = (sys.stdin, sys.stdout)
    if not all(stream is not None and stream.isatty() for stream in streams):
        raise UsageError(f"{command} needs a terminal; {instead}.")
    if find_spec("textual") is None:
        raise MissingExtraError(
            "the dashboard needs textual, which is not installed; "
            "install it with: pip install 'trainprof[tui]'"
        )


def show(folder: Path, supervisor: int | None = None, *, calibration: bool = True) -> None:
    """Shows the dashboard of a run folder until it is left.

    Args:
        folder: Of the run, or of a tune.
        supervisor: Process that passes Ctrl-C on to the script; None where that is not for us.
        calibration: Of the diagnoses that it shows.
    """
    from trainprof.cli.dashboard_services import services_of, services_of_tune
    from trainprof.profiler.store.layout import BASELINE_FOLDER
    from trainprof.profiler.store.tail import RunTail
    from trainprof.profiler.store.tune_progress import TuneTail, is_tune
    from trainprof.reports.dashboard.app import DashboardApp

    if is_tune(folder):
        tail = RunTail(folder / BASELINE_FOLDER)
        services = services_of_tune(folder, calibration=calibration)
        app = DashboardApp(tail, services, tune=TuneTail(folder))
    else:
        services = services_of(folder, supervisor, calibration=calibration)
        app = DashboardApp(RunTail(folder), services)
    app.run()
