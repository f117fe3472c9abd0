"""`trainprof diagnose`: what was wrong with a recorded run, also with one that still goes on."""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Literal

import click
import msgspec

from trainprof.cli.output import write_output
from trainprof.cli.reading_ahead import Ahead
from trainprof.cli.settings import FAIL_ON, Settings, load_settings
from trainprof.cli.trace_paths import keep_traces, traces_among
from trainprof.errors import UsageError
from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.reports.terminal import TerminalReport, is_styled, terminal_width

FORMATS = ("text", "json", "markdown", "github")
_RANK = {"info": 0, "warn": 1, "critical": 2}


@click.command()
@click.argument("runs", nargs=-1, metavar="[RUN|TRACE]...")
@click.option("--format", "style", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--fail-on", type=click.Choice(FAIL_ON), help="Exit 1 on a finding this grave.")
@click.option("--select", multiple=True, metavar="RULE", help="Only this rule (repeatable).")
@click.option("--ignore", multiple=True, metavar="RULE", help="Not this rule (repeatable).")
@click.option(
    "--calibration/--no-calibration",
    default=True,
    help="Hold predictions against what earlier tunes have measured here (default: yes).",
)
@click.option(
    "--jobs", type=click.IntRange(min=1), metavar="N", help="Read so many traces at a time."
)
@click.option(
    "--engine",
    type=click.Choice(["local", "ray"]),
    default="local",
    show_default=True,
    help="Read traces of many ranks here, or on the Ray cluster that runs (RAY_ADDRESS).",
)
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file, not to stdout.")
@click.option("--quiet", is_flag=True, help="Only the verdict and one line per finding.")
@click.option("--no-tui", is_flag=True, help="No dashboard (diagnose has none anyway).")
def diagnose(
    runs: tuple[str, ...],
    style: str,
    fail_on: Literal["warn", "critical"] | None,
    select: tuple[str, ...],
    ignore: tuple[str, ...],
    calibration: bool,
    jobs: int | None,
    engine: str,
    out: Path | None,
    quiet: bool,
    no_tui: bool,
) -> int:
    """Say where the time of recorded runs went, and why.

    TRACE is a file that torch.profiler has exported, on any machine, or a folder of such; those of
    several ranks of one training are diagnosed together. A memory snapshot of torch is one too. RUN
    is a run folder or its name under trainprof-runs/; the latest by default. A run that still goes
    on is diagnosed as far as it got. `# trainprof: ignore[rule-id]` on a source line leaves out the
    finding of a rule there; `[tool.trainprof]` in pyproject.toml sets select, ignore and fail-on
    for a project.
    """
    settings = load_settings()
    settings = msgspec.structs.replace(
        settings,
        select=select or settings.select,
        ignore=ignore or settings.ignore,
        fail_on=fail_on or settings.fail_on,
        calibration=calibration and settings.calibration,
    )
    if out is not None:
        keep_traces(out, traces_among(runs))
    try:
        with _without_collector():
            diagnoses = _diagnoses(runs, settings, engine, jobs, single=style == "json")
            text = "\n".join(_render(diagnosis, style, quiet, out) for diagnosis in diagnoses)
    except KeyboardInterrupt:
        return 130
    write_output(text, out)
    return 1 if _fails(diagnoses, settings.fail_on) else 0


@contextmanager
def _without_collector() -> Iterator[None]:
    """Nothing here makes cycles that matter; to look for them takes a twentieth of the time."""
    collecting = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if collecting:
            gc.enable()


def _diagnoses(
    runs: tuple[str, ...], settings: Settings, engine: str, jobs: int | None, *, single: bool
) -> list[Diagnosis]:
    """One of each run; traces of several ranks of one training have one together."""
    traces = traces_among(runs)
    if traces:
        # numpy would start a thread for each core, for algebra that nobody does here.
        os.environ.setdefault("OPENBLAS_NUM_THREADS", "1")
        from trainprof.cli.trace_reading import (  # numpy takes a while
            briefs_by,
            diagnosed_files,
        )

        ahead = click.get_current_context().find_object(Ahead)
        if ahead is not None:
            # While the trace is being read: what shows it, and what numpy.unique asks for.
            import numpy.ma  # noqa: F401

            import trainprof.reports.terminal.sections  # noqa: F401
        briefs = briefs_by(engine, jobs)
        found = diagnosed_files(traces, settings, briefs, ahead, operators=single)
        if single and len(found) > 1:
            raise UsageError("--format json prints one object; give one trace, or one training.")
        return found
    if single and len(runs) > 1:
        raise UsageError("--format json prints one object; give one run at a time.")
    return [_diagnosis(run, settings) for run in runs or (None,)]


def _diagnosis(run: str | None, settings: Settings) -> Diagnosis:
    from trainprof.cli.judgement import judge  # numpy takes a tenth of a second
    from trainprof.profiler.store.folder import run_inside
    from trainprof.profiler.store.reader import resolve_run

    return judge(run_inside(resolve_run(run)), settings)


def _render(diagnosis: Diagnosis, style: str, quiet: bool, out: Path | None) -> str:
    if style == "json":
        from trainprof.reports.json_report import JsonReport

        return JsonReport().render(diagnosis)
    if style == "markdown":
        from trainprof.reports.markdown import MarkdownReport

        return MarkdownReport().render(diagnosis)
    if style == "github":
        from trainprof.reports.github import GithubReport

        return GithubReport().render(diagnosis)
    width = terminal_width(sys.stdout) if out is None else 80
    styled = out is None and is_styled(sys.stdout)
    return TerminalReport(width=width, styled=styled, brief=quiet).render(diagnosis)


def _fails(diagnoses: list[Diagnosis], fail_on: str | None) -> bool:
    if fail_on is None:
        return False
    return any(
        _RANK.get(finding.severity, 0) >= _RANK[fail_on]
        for diagnosis in diagnoses
        for finding in _all_findings(diagnosis)
    )


def _all_findings(diagnosis: Diagnosis) -> Iterator[Finding]:
    yield from diagnosis.findings
    for other in diagnosis.other_sessions:
        yield from _all_findings(other)
