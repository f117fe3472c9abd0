"""`trainprof trace`: a trace of a few steps of a training that runs."""

from __future__ import annotations

import sys
from pathlib import Path

import click

from trainprof.profiler.store.trace_files import DEFAULT_STEPS, MOST_STEPS


@click.command()
@click.argument("run", required=False)
@click.option(
    "--steps",
    type=click.IntRange(1, MOST_STEPS),
    default=DEFAULT_STEPS,
    show_default=True,
    help="How many whole steps.",
)
@click.option("--quiet", is_flag=True, help="Print the paths of the traces only.")
@click.option("--no-tui", is_flag=True, help="No dashboard (trace has none anyway).")
def trace(run: str | None, steps: int, quiet: bool, no_tui: bool) -> int:
    """Take a trace of the next steps of a training that runs, and say what it tells.

    RUN is a run folder or its name under trainprof-runs/; the latest by default. The steps are
    those of all ranks alike. The trace stays in the run folder, opens in ui.perfetto.dev, and is
    part of the run's diagnosis from then on.
    """
    from trainprof.cli.tracing import take_trace
    from trainprof.profiler.store.folder import run_inside
    from trainprof.profiler.store.reader import resolve_run

    taken = take_trace(run_inside(resolve_run(run)), steps)
    for path in taken.paths:
        click.echo(path)
    for reason in taken.reasons:
        click.echo(f"trainprof: {reason}.", err=True)
    if not quiet:
        _print_diagnosis(taken.paths)
    return 0


def _print_diagnosis(paths: list[Path]) -> None:
    from trainprof.cli.settings import load_settings
    from trainprof.reports.terminal import TerminalReport, is_styled, terminal_width
    from trainprof.rules.rank_traces import diagnose_traces

    settings = load_settings()
    report = TerminalReport(width=terminal_width(sys.stdout), styled=is_styled(sys.stdout))
    for one in diagnose_traces(paths, select=settings.select, ignore=settings.ignore):
        click.echo(report.render(one))
