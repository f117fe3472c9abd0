"""What a tune has tried, with the interval of each ratio drawn."""

from __future__ import annotations

import math
from collections.abc import Iterator

from trainprof.profiler.model.tuning import TriedFix, TuneResult
from trainprof.reports import numbers
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.text import SHORT, printable

HEADINGS = ("fix", "outcome", "faster", "interval", "pairs", "predicted", "why")


def experiments_section(tune: TuneResult | None) -> Block:
    """The experiments of a tune; nothing where no tune belongs to the run."""
    found = [] if tune is None else list(_blocks(tune))
    return blocks.section("experiments", "Fixes that were tried", found)


def _tried(tune: TuneResult) -> list[tuple[str, TriedFix]]:
    groups = (
        ("kept", tune.kept),
        ("not shown", tune.inconclusive),
        ("no gain", tune.rejected),
        ("failed", tune.failed),
    )
    return [(outcome, fix) for outcome, fixes in groups for fix in fixes]


def _blocks(tune: TuneResult) -> Iterator[Block]:
    level = f"{tune.ci_level * 100:.0f} %"
    if tune.speedup is not None and tune.ci is not None:
        low, high = tune.ci
        yield blocks.text(
            f"All that is kept makes a step {tune.speedup:.2f} times faster "
            f"[{low:.2f}, {high:.2f}], over {tune.pairs} pairs of trials.",
            "lead",
        )
    else:
        yield blocks.text("Nothing was proven faster.", "lead")
    tried = _tried(tune)
    marks = [_mark(outcome, fix) for outcome, fix in tried if fix.ci is not None]
    if marks:
        caption = (
            f"Old over new time of each fix, with its {level} interval: right of 1 is faster. "
            "A hollow square is what was predicted."
        )
        yield {
            "kind": "intervals",
            "id": "chart-experiments",
            "title": "Measured gain of each fix",
            "caption": caption,
            "marks": marks,
        }
    if tried:
        caption = f"What was tried, in trials of {numbers.count(tune.steps)} steps"
        yield blocks.table(
            caption, HEADINGS, [_cells(*one) for one in tried], "  ####".ljust(len(HEADINGS))
        )
    if tune.refused:
        rows = [
            (printable(one.fix, SHORT), printable(one.rule, SHORT), printable(one.reason))
            for one in tune.refused
        ]
        yield blocks.table("Not tried, or not in force", ("fix", "rule", "why"), rows)
    if tune.patch:
        yield blocks.diff(tune.patch, "What is kept, in the source")


def _mark(outcome: str, fix: TriedFix) -> dict[str, object]:
    assert fix.ci is not None
    values = (fix.speedup, *fix.ci)
    speedup, low, high = (one if one is not None and math.isfinite(one) else None for one in values)
    return {
        "name": printable(fix.fix, SHORT),
        "outcome": outcome,
        "speedup": speedup,
        "low": low,
        "high": high,
        "predicted": list(fix.predicted) if fix.predicted else None,
        "text": f"{fix.pairs} pairs",
    }


def _cells(outcome: str, fix: TriedFix) -> tuple[str, ...]:
    interval = "" if fix.ci is None else f"{fix.ci[0]:.2f} to {fix.ci[1]:.2f}"
    predicted = "" if fix.predicted is None else numbers.ratio(*fix.predicted)
    return (
        printable(fix.fix, SHORT),
        outcome,
        "" if fix.speedup is None else f"{fix.speedup:.2f}x",
        interval,
        numbers.count(fix.pairs),
        predicted,
        printable(fix.reason),
    )
