"""What a tune has tried: each ratio with its interval and its pairs, drawn and as tables."""

from __future__ import annotations

import math
from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainprof.profiler.model.tuning import Pair, TriedFix, TriedTogether, TuneResult
from trainprof.reports import numbers
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.sentences import noise_line
from trainprof.reports.text import SHORT, printable
from trainprof.reports.tune_sentences import PAIR_HEADINGS, factor, pair_cells

HEADINGS = ("fix", "outcome", "faster", "interval", "decided by", "pairs", "predicted", "why")
CONTROL = "the script against itself"
TOGETHER = {
    "keep": "faster together",
    "reject": "no gain",
    "inconclusive": "not shown",
    "refused": "not in force",
}


@dataclass(frozen=True, slots=True)
class _Row:
    """One thing that was tried, or the control; the fields as in `TriedFix`."""

    name: str
    outcome: str
    speedup: float | None
    ci: tuple[float, float] | None
    pairs: int
    measured: tuple[Pair, ...]
    deciding_low: float | None = None
    predicted: tuple[float, float] | None = None
    reason: str = ""


def experiments_section(tune: TuneResult | None) -> Block:
    """The experiments of a tune; nothing where no tune belongs to the run."""
    found = [] if tune is None else list(_blocks(tune))
    return blocks.section("experiments", "Fixes that were tried", found)


def _rows(tune: TuneResult) -> Iterator[_Row]:
    control = _control(tune)
    if control is not None:
        yield control
    groups = (
        ("kept", tune.kept),
        ("not shown", tune.inconclusive),
        ("no gain", tune.rejected),
        ("failed", tune.failed),
    )
    for outcome, fixes in groups:
        yield from (_single(outcome, fix) for fix in fixes)
    yield from (_together(one) for one in tune.combinations)


def _single(outcome: str, fix: TriedFix) -> _Row:
    return _Row(
        printable(fix.fix, SHORT),
        outcome,
        fix.speedup,
        fix.ci,
        fix.pairs,
        fix.measured,
        fix.deciding_low,
        fix.predicted,
        printable(fix.reason),
    )


def _together(one: TriedTogether) -> _Row:
    return _Row(
        printable(" + ".join(one.fixes), SHORT),
        TOGETHER.get(one.verdict, "failed"),
        one.speedup,
        one.ci,
        one.pairs,
        one.measured,
        one.deciding_low,
        reason=printable(one.reason),
    )


def _control(tune: TuneResult) -> _Row | None:
    """The pairs of unchanged runs; their ratio would be 1 on a machine without noise."""
    ratio, interval, pairs = (tune.aa.get(name) for name in ("ratio", "ci", "pairs"))
    if not tune.aa_pairs:
        return None
    return _Row(
        CONTROL,
        "control",
        ratio if isinstance(ratio, float) else None,
        (interval[0], interval[1]) if isinstance(interval, (list, tuple)) else None,
        pairs if isinstance(pairs, int) else 0,
        tune.aa_pairs,
    )


def _blocks(tune: TuneResult) -> Iterator[Block]:
    if tune.speedup is not None and tune.ci is not None:
        low, high = tune.ci
        yield blocks.text(
            f"All that is kept makes a step {tune.speedup:.2f} times faster "
            f"[{low:.2f}, {high:.2f}], over {tune.pairs} pairs of trials.",
            "lead",
        )
    else:
        yield blocks.text("Nothing was proven faster.", "lead")
    rows = list(_rows(tune))
    yield from _drawn(tune, rows)
    if rows:
        caption = f"What was tried, in trials of {numbers.count(tune.steps)} steps"
        cells = (_cells(row) for row in rows)
        yield blocks.table(caption, HEADINGS, cells, "  #### ")
    yield from _pairs(rows)
    if tune.refused:
        refused = [
            (printable(one.fix, SHORT), printable(one.rule, SHORT), printable(one.reason))
            for one in tune.refused
        ]
        yield blocks.table("Not tried, or not in force", ("fix", "rule", "why"), refused)
    if tune.patch:
        yield blocks.diff(tune.patch, "What is kept, in the source")


def _drawn(tune: TuneResult, rows: Iterable[_Row]) -> Iterator[Block]:
    marks = [_mark(row) for row in rows if row.ci is not None or row.measured]
    if marks:
        yield {
            "kind": "intervals",
            "id": "chart-experiments",
            "title": "Measured gain of each fix",
            "caption": _caption(tune, any(mark["pairs"] for mark in marks)),
            "marks": marks,
            "threshold": _finite(tune.least_ratio),
        }
    noise = noise_line(tune.aa)
    if noise is not None:
        yield blocks.text(f"{noise[:1].upper()}{noise[1:]}.", "note")


def _caption(tune: TuneResult, with_pairs: bool) -> str:
    level = f"{tune.ci_level * 100:.0f} %"
    parts = [f"Old over new time of each fix, with its {level} interval: right of 1 is faster."]
    if tune.least_ratio is not None:
        parts.append(
            "The upright stroke is the end of the interval that decides, as all looks and all that "
            f"is tried share its error; a fix is kept where it lies right of 1 (dotted) and the "
            f"ratio right of {tune.least_ratio:.2f} (dashed)."
        )
    parts.append("A hollow square is what was predicted.")
    if with_pairs:
        parts.append(
            "Each dot is a pair of trials, the first one on top; a cross is one that does not "
            "count."
        )
    else:
        parts.append("The single pairs were not recorded.")
    return " ".join(parts)


def _mark(row: _Row) -> dict[str, object]:
    low, high = row.ci or (None, None)
    interval = f", {factor(row.speedup)} [{_interval(row)}]" if row.ci is not None else ""
    counted = f"{row.pairs} pair" if row.pairs == 1 else f"{row.pairs} pairs"
    deciding = _finite(row.deciding_low)
    return {
        "label": f"{row.name}: {row.outcome}{interval}, {counted}",
        "speedup": _finite(row.speedup),
        "low": _finite(low),
        "high": _finite(high),
        "deciding_low": deciding,
        "deciding_text": "" if deciding is None else f"{deciding:.2f}",
        "predicted": None if row.predicted is None else [_finite(one) for one in row.predicted],
        "predicted_text": "" if row.predicted is None else numbers.ratio(*row.predicted),
        "pairs": [_dot(number, pair) for number, pair in enumerate(row.measured, 1)],
    }


def _dot(number: int, pair: Pair) -> dict[str, object]:
    left_out = "" if pair.left_out is None else f", left out: {printable(pair.left_out)}"
    steps = f"{numbers.seconds(pair.old_step_s)} and {numbers.seconds(pair.new_step_s)} a step"
    return {
        "ratio": _finite(pair.ratio),
        "counts": pair.left_out is None,
        "text": f"pair {number}: {factor(pair.ratio)}, {steps}{left_out}",
    }


def _finite(value: float | None) -> float | None:
    return value if value is not None and math.isfinite(value) else None


def _interval(row: _Row) -> str:
    return "" if row.ci is None else f"{row.ci[0]:,.2f} to {row.ci[1]:,.2f}"


def _cells(row: _Row) -> tuple[str, ...]:
    return (
        row.name,
        row.outcome,
        "" if row.speedup is None else factor(row.speedup),
        _interval(row),
        "" if row.deciding_low is None else f"{row.deciding_low:.2f}",
        numbers.count(row.pairs),
        "" if row.predicted is None else numbers.ratio(*row.predicted),
        row.reason,
    )


def _pairs(rows: Iterable[_Row]) -> Iterator[Block]:
    """Every dot of the picture as text."""
    cells = [
        (row.name, numbers.count(number), *pair_cells(pair))
        for row in rows
        for number, pair in enumerate(row.measured, 1)
    ]
    if cells:
        caption = (
            "The pairs in the order in which they were measured; of the script against itself "
            '"without" ran first. Times are of the mean step, and "faster" by the time of a sample '
            "where samples were counted"
        )
        yield blocks.table(caption, ("tried", "pair", *PAIR_HEADINGS), cells, " # ### ")
