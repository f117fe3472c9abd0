"""`trainprof compare`: whether one group of runs is slower than another, where, and why."""

from __future__ import annotations

import math
import os
from pathlib import Path

import click

from trainprof.cli.output import write_output
from trainprof.cli.settings import Settings, load_settings
from trainprof.errors import UsageError
from trainprof.profiler.model.comparison import Comparison
from trainprof.profiler.store.layout import RUNS_FOLDER
from trainprof.rules.comparison.measured import JudgedRun

FORMATS = ("text", "json", "html", "markdown")


class Percentage(click.ParamType):  # type: ignore[type-arg, unused-ignore]
    """A part, as it is written: 5%, "2.5 %"."""

    name = "percentage"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> float:
        """The part, 0.05 for 5%."""
        if isinstance(value, float):
            return value
        number, sign, rest = str(value).partition("%")
        try:
            part = float(number) / 100.0
        except ValueError:
            part = math.nan
        if not sign or rest.strip() or not 0.0 <= part < math.inf:
            self.fail(f"{str(value)!r} is no percentage; write it as in 5%", param, ctx)
        return part


@click.command()
@click.argument("base", metavar="A")
@click.argument("candidate", metavar="B")
@click.option(
    "--fail-if-slower",
    "limit",
    type=Percentage(),
    metavar="PERCENT",
    help="Exit 1 where the runs show that B is slower by more than this (5%).",
)
@click.option("--format", "style", type=click.Choice(FORMATS), default="text", show_default=True)
@click.option("--out", type=click.Path(path_type=Path), help="Write to this file, not to stdout.")
def compare(base: str, candidate: str, limit: float | None, style: str, out: Path | None) -> int:
    """Hold runs of a candidate (B) against runs of what there was (A).

    A and B are a run each, by its folder or its name under trainprof-runs/; several runs separated
    by commas; or a folder that holds several. Three or more runs of each, made in turns, show how
    much equal runs differ on this machine; with fewer a floor is assumed. --fail-if-slower does not
    fail where the runs cannot decide.
    """
    old, new = _folders(base), _folders(candidate)
    _check_apart(old, new)
    settings = load_settings()
    try:
        comparison = _compared(
            [_judged(folder, settings) for folder in old],
            [_judged(folder, settings) for folder in new],
            limit,
        )
        text = _render(comparison, style)
    except KeyboardInterrupt:
        return 130
    write_output(text, out)
    return 1 if comparison.gate is not None and comparison.gate.outcome == "failed" else 0


def _folders(group: str) -> list[Path]:
    """The run folders that one argument means."""
    # os.path, as to Path a list that is longer than a file's name may be is an error
    whole = os.path.exists(group) or os.path.isdir(os.path.join(RUNS_FOLDER, group))
    names = [group] if whole else [name for name in group.split(",") if name]
    if not names:
        raise UsageError("a side of the comparison names no run; give a run folder or its name.")
    return [folder for name in names for folder in _runs_of(name)]


def _runs_of(name: str) -> list[Path]:
    """One run; or the runs in a folder that is none itself, the first made first."""
    from trainprof.profiler.store.folder import run_inside
    from trainprof.profiler.store.reader import find_runs, resolve_run

    folder = Path(name) if Path(name).exists() else Path(RUNS_FOLDER, name)
    if folder.is_dir():
        held = [entry.path for entry in find_runs(folder)]
        if held:
            return [run_inside(path) for path in reversed(held)]
    return [run_inside(resolve_run(name))]


def _check_apart(base: list[Path], candidate: list[Path]) -> None:
    """Raises UsageError where a run is named twice."""
    seen: dict[Path, str] = {}
    for side, folders in (("A", base), ("B", candidate)):
        for folder in folders:
            earlier = seen.setdefault(folder.resolve(), side)
            if earlier != side:
                raise UsageError(
                    f"{folder} is on both sides; a run differs from itself by nothing, so make "
                    "another one."
                )
        if len({folder.resolve() for folder in folders}) < len(folders):
            raise UsageError(f"a run is named twice in {side}; name each once.")


def _judged(folder: Path, settings: Settings) -> JudgedRun:
    from trainprof.cli.judgement import judge_run
    from trainprof.profiler.store.reader import read_run

    run = read_run(folder)
    return JudgedRun(judge_run(run, settings), run.info)


def _compared(base: list[JudgedRun], candidate: list[JudgedRun], limit: float | None) -> Comparison:
    from trainprof.rules.comparison import compare as compare_groups

    return compare_groups(base, candidate, limit)


def _render(comparison: Comparison, style: str) -> str:
    if style == "json":
        from trainprof.reports.comparison.json_report import ComparisonJson

        return ComparisonJson().render(comparison)
    if style == "html":
        from trainprof.reports.comparison.html import ComparisonHtml

        return ComparisonHtml().render(comparison)
    if style == "markdown":
        from trainprof.reports.comparison.markdown import ComparisonMarkdown

        return ComparisonMarkdown().render(comparison)
    from trainprof.reports.comparison.text import ComparisonText

    return ComparisonText().render(comparison)
