"""`trainprof export`: a run or a trace for another program."""

from __future__ import annotations

from pathlib import Path

import click

from trainprof.cli.settings import Settings, load_settings
from trainprof.cli.trace_paths import keep_traces, traces_among
from trainprof.errors import UsageError

FORMATS = ("perfetto", "csv", "parquet", "tensorboard", "wandb")


@click.command()
@click.argument("run", required=False, metavar="[RUN|TRACE]")
@click.option("--to", type=click.Choice(FORMATS), required=True, help="Which program reads it.")
@click.option(
    "--out",
    type=click.Path(path_type=Path),
    help="The file (perfetto; .gz is packed), or the folder (csv, parquet, tensorboard); of wandb "
    "where it keeps its files, the working directory by default.",
)
def export(run: str | None, to: str, out: Path | None) -> None:
    """Write a run or a trace for another program.

    perfetto: a picture of time for https://ui.perfetto.dev, with the findings above it. Of a TRACE
    it holds all events of the file, what each device did, and what the host did while a device was
    idle; of a RUN (a folder, or a name under trainprof-runs/; the latest by default) the phases of
    every step of every rank, events, loader workers, and what the machine did meanwhile.

    csv, parquet: tables of a RUN, one file each: every step with its phases, losses, samples of the
    machine, its processes and its GPUs, findings and their evidence. Units are in the names; what
    was not measured is empty.

    tensorboard: a RUN as a folder of its own in the folder that `tensorboard --logdir` is given:
    curves of phases, step rate and resources, the findings, a picture of the mean step, and what a
    tune has tried.

    wandb: a RUN at Weights & Biases: metrics over steps of their own, facts, the findings as a
    table, report and traces as an artifact; of a tune its trials as runs of one group. Where the
    script logged to a W&B run itself, that one is continued. With WANDB_MODE=offline nothing is
    sent.
    """
    if to == "wandb":
        from trainprof.cli.wandb_export import export_to_wandb

        export_to_wandb(run, out, load_settings())
    elif out is None:
        raise UsageError(f"--to {to} needs a place; name it with --out.")
    elif to == "tensorboard":
        from trainprof.cli.tensorboard_folder import export_tensorboard

        export_tensorboard(run, out, load_settings())
    elif to in ("csv", "parquet"):
        _export_tables(run, to, out, load_settings())
    else:
        _export_picture(run, out)


def _export_tables(run: str | None, to: str, out: Path, settings: Settings) -> None:
    from trainprof.cli.judgement import judge
    from trainprof.profiler.store.folder import run_inside
    from trainprof.profiler.store.reader import read_run, resolve_run
    from trainprof.reports.table_files import write_tables
    from trainprof.reports.tables import run_tables

    if out.exists() and not out.is_dir():
        raise UsageError(f"{out} is a file; name the folder for the tables with --out.")
    folder = run_inside(resolve_run(run))
    paths = write_tables(run_tables(read_run(folder), judge(folder, settings)), out, to)
    names = ", ".join(path.name for path in paths)
    click.echo(f"{out} holds {names}.", err=True)


def _export_picture(run: str | None, out: Path) -> None:
    if out.exists() and not out.is_file():
        raise UsageError(f"{out} is no file that can be written over; name another with --out.")
    traces = traces_among((run,)) if run is not None else []
    if len(traces) > 1:
        raise UsageError(
            f"{run} holds {len(traces)} traces, and a picture is of one; name one of them, such as "
            f"{traces[0]}."
        )
    if traces:
        keep_traces(out, traces)
        _export_trace(traces[0], out, load_settings())
    else:
        _export_run(run, out, load_settings())
    click.echo(f"{out} opens in https://ui.perfetto.dev.", err=True)


def _export_run(run: str | None, out: Path, settings: Settings) -> None:
    from trainprof.cli.judgement import judge
    from trainprof.profiler.store.folder import run_inside
    from trainprof.profiler.store.reader import read_run, resolve_run
    from trainprof.reports.perfetto import perfetto_file
    from trainprof.reports.run_tracks import run_tracks

    folder = run_inside(resolve_run(run))
    diagnosis = judge(folder, settings)
    with perfetto_file(out) as file:
        for track in run_tracks(read_run(folder), diagnosis):
            file.put(track)
        file.finish({"displayTimeUnit": "ms"})


def _export_trace(path: Path, out: Path, settings: Settings) -> None:
    from trainprof.profiler.model.tracks import Track
    from trainprof.profiler.traces.opening import Format, format_of, open_trace
    from trainprof.profiler.traces.path_track import path_track
    from trainprof.profiler.traces.timeline import timeline
    from trainprof.profiler.traces.tracks import PROCESS, device_tracks, event_tracks, window_tracks
    from trainprof.reports.perfetto import finding_slices, perfetto_file
    from trainprof.rules.trace_diagnosis import diagnosis_of, trace_rules
    from trainprof.rules.trace_signals.traced import Traced

    rules = trace_rules(settings.select, settings.ignore)
    with perfetto_file(out) as file:
        trace = open_trace(path, file.put_text)
        traced = Traced(trace, timeline(trace))
        window = traced.timeline.window
        findings = finding_slices(diagnosis_of(traced, rules), window.start_ns, window.end_ns)
        file.avoid(process for process, _ in trace.lanes)
        for track in window_tracks(traced.timeline):
            file.put(track)
        file.put(Track(PROCESS, "findings", findings))
        path_found = path_track(trace, traced.timeline)
        if path_found is not None:
            file.put(path_found)
        for track in device_tracks(trace, traced.timeline):
            file.put(track)
        if format_of(path) is Format.SQLITE:
            for track in event_tracks(trace):
                file.put(track)
        file.finish(trace.header)
