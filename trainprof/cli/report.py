"""`trainprof report`: a run or a trace as one page that opens offline in any browser."""

from __future__ import annotations

import os
from pathlib import Path
from typing import TYPE_CHECKING

import click

from trainprof.cli.settings import load_settings
from trainprof.cli.trace_paths import keep_traces, traces_among
from trainprof.errors import UsageError

if TYPE_CHECKING:
    from trainprof.profiler.model.diagnosis import Diagnosis


@click.command()
@click.argument("run", required=False, metavar="[RUN|TRACE]")
@click.option(
    "--out",
    "--html",
    "out",
    type=click.Path(path_type=Path),
    help="The file; report.html in the run's folder by default, beside you for a trace.",
)
def report(run: str | None, out: Path | None) -> None:
    """Write a run or a trace as a page of HTML.

    One file that needs no network and no other file: the verdict, where a step's time goes, the
    findings with their evidence, source and fixes, and everything over the time of the run. RUN is
    a run folder or its name under trainprof-runs/ (the latest by default), or a tune, whose
    experiments are shown too. TRACE is a file that torch.profiler has exported, or a folder of
    those of one training. `trainprof run` writes the page of its run by itself.
    """
    if out is not None and out.exists() and not out.is_file():
        raise UsageError(f"{out} is no file that can be written over; name another with --out.")
    traces = traces_among((run,)) if run is not None else []
    written = _of_traces(traces, out) if traces else _of_run(run, out)
    click.echo(written)


def _of_run(run: str | None, out: Path | None) -> Path:
    from trainprof.cli.judgement import judge
    from trainprof.cli.report_page import REPORT_FILE, run_extras, write_page
    from trainprof.profiler.store.folder import run_inside
    from trainprof.profiler.store.reader import resolve_run

    folder = resolve_run(run)
    inside = run_inside(folder)
    diagnosis = judge(inside, load_settings())
    path = out or folder / REPORT_FILE
    write_page(diagnosis, run_extras(folder, inside, diagnosis), path)
    return path


def _of_traces(traces: list[Path], out: Path | None) -> Path:
    from trainprof.cli.report_page import REPORT_FILE, trace_extras, write_page

    path = out or Path(REPORT_FILE)
    keep_traces(path, traces)
    diagnosis = _diagnosed(traces)
    write_page(diagnosis, trace_extras(diagnosis), path)
    return path


def _diagnosed(traces: list[Path]) -> Diagnosis:
    # numpy would start a thread for each core, for algebra that nobody does here.
    os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
    from trainprof.cli.trace_reading import briefs_by, diagnosed_files

    found = diagnosed_files(traces, load_settings(), briefs_by("local", None), operators=True)
    if len(found) != 1:
        raise UsageError(
            f"these are {len(found)} traces that belong to no one training; give one at a time."
        )
    return found[0]
