"""`trainprof tune`: finds the fixes that are proven faster on this script."""

from __future__ import annotations

import sys
from contextlib import closing
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainprof.errors import UsageError
from trainprof.profiler.launch import resolve_command

if TYPE_CHECKING:
    from trainprof.cli.resuming import Earlier


@click.command(context_settings={"ignore_unknown_options": True, "allow_interspersed_args": False})
@click.option(
    "--budget",
    type=click.FloatRange(min=1.0),
    default=600.0,
    show_default=True,
    metavar="SECONDS",
    help="Time for all of it.",
)
@click.option(
    "--allow",
    type=click.Choice(["safe", "numerics", "semantics"]),
    default="numerics",
    show_default=True,
    help="The most that a fix may change; numerics only with the losses unharmed.",
)
@click.option(
    "--fix",
    "fixes",
    multiple=True,
    metavar="ID[:k=v,…]",
    help="Try exactly this fix, whether a finding advises it or not; may be given again.",
)
@click.option(
    "--steps",
    type=click.IntRange(min=10),
    help="Of a trial, its warm-up not counted (default: as many as take 4 seconds, 30 to 200).",
)
@click.option(
    "--run-steps",
    type=click.IntRange(min=1),
    metavar="N",
    help="Steps that the training does; a slow start (compiling) must pay within them.",
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Where trials run: here, or on a node of the Ray cluster that runs (RAY_ADDRESS).",
)
@click.option("--out", type=click.Path(path_type=Path), help="Exact folder for the records.")
@click.option(
    "--resume",
    is_flag=True,
    help="Go on with the latest tune of this command, or with that of --out, as it was asked for.",
)
@click.option(
    "--calibration/--no-calibration",
    default=True,
    help="Hold predictions against what earlier tunes have measured here (default: yes).",
)
@click.option("--dry-run", is_flag=True, help="Say what would be tried, and try nothing.")
@click.option("--quiet", is_flag=True, help="Print the result only.")
@click.option("--no-tui", is_flag=True, help="No dashboard (there is none anyway).")
@click.option("--yes", is_flag=True, help="Go on where trials cannot be kept from writing files.")
@click.option(
    "--format",
    "form",
    type=click.Choice(["text", "json"]),
    default="text",
    show_default=True,
    help="json prints one object on stdout.",
)
@click.argument("command", nargs=-1, type=click.UNPROCESSED)
def tune(
    budget: float,
    allow: str,
    fixes: tuple[str, ...],
    steps: int | None,
    run_steps: int | None,
    engine: str,
    out: Path | None,
    resume: bool,
    calibration: bool,
    dry_run: bool,
    quiet: bool,
    no_tui: bool,
    yes: bool,
    form: str,
    command: tuple[str, ...],
) -> int:
    """Try the fixes that the diagnosis advises, and keep what is proven faster.

    The script runs unchanged first. Then each fix is applied while it runs, shown to be in force,
    and measured against the unchanged script in pairs of short runs that alternate; the losses are
    compared. What the trials write into the project is dropped.
    """
    if not resume and not command:
        raise UsageError("there is nothing to tune; add the command: trainprof tune -- train.py.")
    if command:
        resolve_command(command)
    from trainprof.cli.ending_signals import ending_signals
    from trainprof.cli.planning import asked_for
    from trainprof.cli.tuning import Tuning
    from trainprof.profiler.store.folder import create_run_folder
    from trainprof.reports.terminal.tune import dry_run_text, tune_text
    from trainprof.reports.tune_json import tune_json
    from trainprof.rules.experiments.trial_journal import Options

    earlier = _earlier(command, out) if resume else None
    if earlier is not None:
        command = command or earlier.about.command
        folder, options = earlier.folder, earlier.about.options
    else:
        options = Options(allow, asked_for(fixes), steps, run_steps, engine)
        folder = create_run_folder(out, "tune", "tune")
    try:
        with ending_signals():
            tuning = Tuning(
                command,
                folder,
                options=options,
                budget_s=budget,
                unguarded=yes,
                say=_silent if quiet else _say,
                earlier=earlier.trials if earlier is not None else None,
                calibration=calibration,
            )
            with closing(tuning), tuning.progress.ending():
                diagnosis = tuning.diagnose()
                result = tuning.dry_run(diagnosis) if dry_run else tuning.experiment(diagnosis)
    except KeyboardInterrupt:
        _say("interrupted before anything was proven; your files are as they were.")
        return 130
    if dry_run and form == "text":
        click.echo(dry_run_text(result), nl=False)
    elif form == "json":
        click.echo(tune_json(result), nl=False)
    else:
        click.echo(tune_text(result), nl=False)
    return 130 if result.ended == "interrupted" else 0


def _earlier(command: tuple[str, ...], out: Path | None) -> Earlier:
    from trainprof.cli.resuming import earlier_tune

    return earlier_tune(command, out)


def _say(text: str) -> None:
    print(f"trainprof: {text}", file=sys.stderr, flush=True)


def _silent(text: str) -> None:
    """With --quiet."""
