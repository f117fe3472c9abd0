"""`trainprof export --to wandb`: a run, or a tune with its trials, at Weights & Biases."""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path

import click

from trainprof.cli.judgement import judge
from trainprof.cli.settings import Settings
from trainprof.errors import RunFolderError, UsageError
from trainprof.profiler.model.run import Run
from trainprof.profiler.store.folder import run_inside
from trainprof.profiler.store.reader import read_run, resolve_run
from trainprof.profiler.store.tune_result import read_tune
from trainprof.reports.wandb_rows import PAIR_COLUMNS, config_of, pair_rows, rows_of
from trainprof.reports.wandb_run import (
    Place,
    WandbRun,
    check_wandb,
    export_run,
    files_of,
    joined_run,
    open_run,
)


def export_to_wandb(argument: str | None, out: Path | None, settings: Settings) -> None:
    """Writes the run; of a tune its trials too, as runs of one group.

    Raises:
        TrainprofError: no such run; what a tune found cannot be read; wandb is absent, refuses or
            cannot write.
    """
    if out is not None and out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name a folder with --out, or leave it out.")
    check_wandb()
    folder = resolve_run(argument)
    inside = run_inside(folder)
    run, diagnosis = read_run(inside), judge(inside, settings)
    if out is not None:
        out.mkdir(parents=True, exist_ok=True)
    trials = list(_trials(folder)) if inside != folder else []
    if not trials:
        told = export_run(run, diagnosis, Place(run.info.name, joined=joined_run(run), folder=out))
        _say(told)
        return
    tune = read_tune(folder)
    pairs = [] if tune is None else pair_rows(tune)
    place = Place("unchanged", group=folder.resolve().name, job_type="baseline", folder=out)
    with open_run(place, config_of(run, diagnosis)) as baseline:
        baseline.log(rows_of(run))
        if pairs:
            baseline.table("trainprof_pairs", PAIR_COLUMNS, pairs)
        baseline.conclude(diagnosis, [*files_of(inside), *files_of(folder)])
    for name, trial, fixes in trials:
        _export_trial(name, trial, fixes, place, settings)
    _say(baseline)
    click.echo(f"{len(trials)} trials are runs of the group {place.group}.", err=True)


def _export_trial(
    name: str, trial: Run, fixes: list[dict[str, object]], beside: Place, settings: Settings
) -> None:
    diagnosis = judge(Path(trial.path), settings)
    place = Place(name, group=beside.group, job_type="trial", folder=beside.folder)
    with open_run(place, {**config_of(trial, diagnosis), "fixes": fixes}) as written:
        written.log(rows_of(trial))
        written.conclude(diagnosis, [])


def _trials(folder: Path) -> Iterator[tuple[str, Run, list[dict[str, object]]]]:
    """Name, run and fixes of each trial of a tune that left a run, in order."""
    for trial in sorted((folder / "trials").glob("*/run")):
        try:
            run = read_run(trial)
        except RunFolderError:  # it did not come so far as to write one
            continue
        yield trial.parent.name, run, _fixes(trial.parent / "plan.json")


def _fixes(plan: Path) -> list[dict[str, object]]:
    try:
        applications = json.loads(plan.read_bytes())["applications"]
        return [{"fix": one["fix"], "params": one["params"]} for one in applications]
    except (OSError, ValueError, KeyError, TypeError):
        return []


def _say(written: WandbRun) -> None:
    if written.url is not None:
        click.echo(f"The run is at {written.url}.", err=True)
    else:
        click.echo(f"The run lies in {written.folder}; `wandb sync` sends it.", err=True)
