"""docs/zoo.md: the figures, the detection curve, and a row for every case."""

from __future__ import annotations

import os
import platform
import subprocess
import time
from collections.abc import Iterable, Sequence

from zoo.cases import REPOSITORY
from zoo.figures import SINGLE_PLANTS, Figures, detection_curve, figures_of
from zoo.judge import LEAST_OTHER_CORES
from zoo.recording import diagnosing_hash, measuring_hashes, source_hash
from zoo.results import Result

INTRODUCTION = """\
# The zoo: figures

Written by `make zoo`; [what the zoo is](benchmark.md) says how a case is judged, and what these
figures mean. Intervals are Wilson's, at 95 %.
"""
EARLIER = """\
Some recordings are those of earlier versions. They lack what later versions measure, and a rule
that needs it counts as missed."""


def write_page(results: Sequence[Result], scripts: int) -> str:
    """The whole page.

    Args:
        results: What has been run.
        scripts: How many scripts there are; the page says so if some have not been run.
    """
    ordered = sorted(results, key=lambda result: (result.case.name, result.script.level or 0))
    parts = [
        INTRODUCTION,
        _provenance(ordered, scripts),
        _summary(ordered),
        _curve(ordered),
        _compound(ordered),
        _wrong(ordered),
        _unbuilt(ordered),
        _faults(ordered),
        _healthy(ordered),
    ]
    return "\n".join(part for part in parts if part)


def _provenance(results: Sequence[Result], scripts: int) -> str:
    commit = _git("rev-parse", "--short=12", "HEAD") or "unknown"
    changed = " with uncommitted changes" if _git("status", "--porcelain", "-uno") else ""
    others = [result.other_cores for result in results if not result.case.is_busy]
    load = sum(others) / len(others) if others else None
    crowded = (
        "**The machine was not quiet**: read these figures as those of a crowded machine, and none "
        "of them as those of a quiet one."
    )
    partial = (
        f"**Partial: {len(results)} of {scripts} scripts have been run with this version.** The "
        "order is mixed, so some of each kind are among them."
    )
    return _paragraphs(
        "" if len(results) == scripts else partial,
        f"Commit `{commit}`{changed}; measuring code "
        f"{_codes(measuring_hashes())}, rules "
        f"`{diagnosing_hash()}`; {time.strftime('%Y-%m-%d %H:%M', time.gmtime())} UTC; "
        f"{platform.machine()}, {os.cpu_count()} cores, Python {platform.python_version()}. "
        "In the quiet runs, which had no neighbour of ours, other programs used "
        f"{_number(load)} cores.",
        crowded if load is not None and load >= LEAST_OTHER_CORES else "",
        EARLIER if len(measuring_hashes()) > 1 else "",
    )


def _summary(results: Sequence[Result]) -> str:
    single = [result for result in results if result.case.group in (*SINGLE_PLANTS, "healthy")]
    columns = {
        "all": single,
        "quiet": [result for result in single if not result.case.is_busy],
        "busy neighbour": [result for result in single if result.case.is_busy],
        "blind": [result for result in results if result.case.group == "blind"],
    }
    figures = {name: figures_of(some) for name, some in columns.items()}
    rows = [
        ("recall@1", lambda one: str(one.recall_1)),
        ("recall@2", lambda one: str(one.recall_2)),
        ("precision at warn and above", lambda one: str(one.precision)),
        ("healthy scripts left alone", lambda one: str(one.clean)),
        ("false alarms per healthy script", lambda one: _number(one.alarms_per_script)),
        ("healthy, but it could not tell", lambda one: str(one.undecided)),
        ("the line is right", lambda one: str(one.located)),
        ("predicted less planted share, median distance", _share_error),
    ]
    return "## Summary\n\n" + _table(
        ["figure", *columns],
        [[label, *(text(figures[name]) for name in columns)] for label, text in rows],
    )


def _share_error(figures: Figures) -> str:
    return f"{_number(figures.share_error)}, of {figures.share_pairs}"


def _curve(results: Sequence[Result]) -> str:
    levels = detection_curve(results)
    if not levels:
        return ""
    rules = sorted({result.case.plants[0] for result in results if result.script.level})
    cells = {
        (result.case.plants[0], result.script.level): _level_cell(result)
        for result in results
        if result.script.level
    }
    heads = [f"{level.percent} %" for level in levels]
    rows = [
        [f"`{rule}`", *(cells.get((rule, one.percent), "") for one in levels)] for rule in rules
    ]
    rows.append(["found", *(str(level.found) for level in levels)])
    rows.append(["found at warn or above", *(str(level.warned) for level in levels)])
    return (
        "## Detection by severity\n\nThe share of the step that is planted, as the script measures "
        "it, then what was said of it.\n\n" + _table(["rule", *heads], rows)
    )


def _level_cell(result: Result) -> str:
    planted = _percent(result.planted_share)
    if result.fault is None:
        return f"{planted}: failed"
    if not result.fault.found_first:
        said = ", ".join(result.fault.said[:2])
        return f"{planted}: nothing" if not said else f"{planted}: {said}"
    return f"{planted}: {result.fault.severity}, {_percent(result.fault.predicted_share)}"


def _compound(results: Sequence[Result]) -> str:
    rows = []
    for result in results:
        if len(result.case.plants) < 2 or result.fault is None:
            continue
        verdict = result.fault
        rows.append(
            [
                result.case.name,
                _beside(result),
                " then ".join(f"`{rule}`" for rule in result.case.plants),
                _codes(verdict.said),
                _mark(verdict.rank == 1),
                _mark(verdict.second_rank is not None),
                "" if verdict.next_named is None else _mark(verdict.next_named),
            ]
        )
    if not rows:
        return ""
    heads = ["case", "beside", "planted", "said", "larger first", "second found", "next named"]
    return "## Two plants in one script\n\n" + _table(heads, rows)


def _wrong(results: Sequence[Result]) -> str:
    lines = [line for result in results if (line := wrong_of(result))]
    return "## Misses and false alarms\n\n" + ("\n".join(lines) or "None.") + "\n"


def _unbuilt(results: Sequence[Result]) -> str:
    """Cases whose rule this version does not have; they count nowhere else."""
    lines = [
        f"- {result.case.name}: `{result.case.plants[0]}`"
        for result in results
        if result.script.role == "fault" and not result.case.is_judged
    ]
    return "## Not judged: no such rule yet\n\n" + "\n".join(lines) + "\n" if lines else ""


def wrong_of(result: Result) -> str:
    """What was wrong with a diagnosis, as a list item; empty if nothing was."""
    name = f"- {result.script.name} ({_beside(result)}): "
    if result.fault is None and result.healthy is None:
        last = (result.error.strip().splitlines() or ["no message"])[-1]
        return f"{name}the script failed: {last}"
    if result.healthy is not None:
        alarms = result.healthy.alarms
        return f"{name}false alarm of {_codes(alarms)}" if alarms else ""
    verdict, plant = result.fault, f"`{result.case.plants[0]}`"
    assert verdict is not None
    if not result.case.is_judged:
        return ""
    if result.script.level is not None and result.script.level < 10 and not verdict.alarms:
        return ""  # a few per cent need not be found
    if verdict.rank is None:
        return f"{name}{plant} was not found; said: {_codes(verdict.said) or 'nothing'}"
    if verdict.rank > 1:
        return f"{name}{plant} came after {_codes(verdict.said[: verdict.rank - 1])}"
    if verdict.alarms:
        return f"{name}beside {plant}, wrongly {_codes(verdict.alarms)}"
    return ""


def _faults(results: Sequence[Result]) -> str:
    twins = {result.case.name: result for result in results if result.script.role == "twin"}
    rows = []
    for result in results:
        if result.script.role != "fault" or len(result.case.plants) > 1 or result.script.level:
            continue
        verdict = result.fault
        rows.append(
            [
                result.case.name,
                _beside(result),
                f"`{result.case.plants[0]}`",
                "failed" if verdict is None else _codes(verdict.said) or "nothing",
                "" if verdict is None else str(verdict.rank or "missed"),
                "" if verdict is None else verdict.severity or "",
                "" if verdict is None or verdict.where is None else _mark(verdict.where),
                _percent(result.planted_share),
                "" if verdict is None else _percent(verdict.predicted_share),
                _ratio(result, twins.get(result.case.name)),
                f"`{source_hash(result.script)}`",
            ]
        )
    heads = ["case", "beside", "planted", "said, in order", "place", "severity", "line"]
    heads += ["planted share", "predicted", "step / twin's", "hash"]
    return "## Faults\n\n" + _table(heads, rows)


def _healthy(results: Sequence[Result]) -> str:
    rows = [
        [
            result.script.name,
            _beside(result),
            result.healthy.verdict,
            _codes(result.healthy.alarms),
            _codes(result.healthy.notes),
            f"`{source_hash(result.script)}`",
        ]
        for result in results
        if result.healthy is not None
    ]
    heads = ["script", "beside", "verdict", "false alarms", "notes", "hash"]
    return "## Healthy scripts and twins\n\n" + _table(heads, rows)


def _table(heads: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    lines = [heads, ["---"] * len(heads), *rows]
    return "\n".join(f"| {' | '.join(cells)} |" for cells in lines) + "\n"


def _paragraphs(*texts: str) -> str:
    return "\n\n".join(text for text in texts if text) + "\n"


def _beside(result: Result) -> str:
    return "busy" if result.case.is_busy else "quiet"


def _mark(holds: bool) -> str:
    return "yes" if holds else "no"


def _codes(rules: Iterable[str]) -> str:
    return ", ".join(f"`{rule}`" for rule in rules)


def _percent(share: float | None) -> str:
    return "" if share is None else f"{100 * share:.0f} %"


def _number(value: float | None) -> str:
    return "none known" if value is None else f"{value:.3f}"


def _ratio(fault: Result, twin: Result | None) -> str:
    if twin is None or not fault.step_s or not twin.step_s:
        return ""
    return f"{fault.step_s / twin.step_s:.2f}"


def _git(*arguments: str) -> str:
    done = subprocess.run(
        ["git", *arguments], cwd=REPOSITORY, capture_output=True, text=True, check=False
    )
    return done.stdout.strip()
