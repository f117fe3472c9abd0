"""The result of a tune as text."""

from __future__ import annotations

import shlex
import textwrap
from collections.abc import Iterator

from trainprof.profiler.model.tuning import TriedFix, TuneResult
from trainprof.reports.numbers import seconds
from trainprof.reports.sentences import noise_line
from trainprof.reports.tune_sentences import headline, interval, searched_line, settings, times

WIDTH = 80


def tune_text(result: TuneResult) -> str:
    """What was proven, what was not, and what to do next."""
    return "\n".join(_lines(result)) + "\n"


def dry_run_text(result: TuneResult) -> str:
    """What would be tried."""
    lines = []
    if not result.candidates:
        lines += _wrapped("No finding advises a fix that can be applied; nothing would be tried.")
    else:
        lines += _wrapped(
            f"{len(result.candidates)} fixes would be tried, in trials of {result.steps} steps: "
            f"{seconds(result.seconds)} at least."
        )
    for fix in result.candidates:
        lines += ["", *_fix("to try", fix)]
        if fix.predicted is not None:
            lines += _wrapped(
                f"predicted {fix.predicted[0]:.2f} to {fix.predicted[1]:.2f} times", 2
            )
    if result.refused:
        lines += ["", "not tried"]
        for refused in result.refused:
            lines += _wrapped(f"{refused.fix} ({refused.rule}): {refused.reason}", 2)
    return "\n".join(lines) + "\n"


def _lines(result: TuneResult) -> Iterator[str]:
    yield from _wrapped(headline(result))
    yield ""
    yield from _wrapped(f"trials of {result.steps} steps; {seconds(result.seconds)} in all")
    yield from _conditions(result)
    for title, tried in (
        ("kept", result.kept),
        ("not shown", result.inconclusive),
        ("no gain", result.rejected),
        ("failed", result.failed),
    ):
        for fix in tried:
            yield ""
            yield from _fix(title, fix)
    yield from _together(result)
    if result.refused:
        yield ""
        yield "not tried, or not in force"
        for refused in result.refused:
            yield from _wrapped(f"{refused.fix} ({refused.rule}): {refused.reason}", 2)
    yield from _patch(result)
    if result.plan is not None:
        yield ""
        yield "Next, to run with what was kept, without touching the source:"
        yield f"  trainprof run --plan {result.plan} -- ..."


def _conditions(result: TuneResult) -> Iterator[str]:
    """How noisy it was, what could be seen, and what was left out."""
    noise = noise_line(result.aa)
    if noise is not None:
        yield from _wrapped(noise)
    if result.dropped_pairs:
        yield from _wrapped(
            f"{result.dropped_pairs} pairs do not count: a trial waited for a CPU more than three "
            "times as long as the others"
        )
    for remark in result.preflight.get("remarks", ()):
        yield from _wrapped(str(remark))


def _together(result: TuneResult) -> Iterator[str]:
    for one in result.combinations:
        ratio = f", {times(one.speedup)}" if one.speedup is not None else ""
        yield ""
        yield from _wrapped(f"together: {', '.join(one.fixes)}{ratio}, {one.pairs} pairs")
        yield from _wrapped(one.reason, 2)


def _patch(result: TuneResult) -> Iterator[str]:
    """The change of the source, as it is, and how to make it."""
    if result.patch is not None:
        yield ""
        yield "in the source"
        yield result.patch.rstrip("\n")
    for sentence in result.by_hand:
        yield ""
        yield from _wrapped(f"by hand: {sentence}")
    if result.patch is not None and result.plan is not None:
        yield ""
        yield "Next, to write this into the source:"
        yield f"  trainprof fix {shlex.quote(result.plan)} --write"


def _fix(title: str, fix: TriedFix) -> Iterator[str]:
    params = settings(fix.params)
    yield from _wrapped(f"{title}: {fix.fix}{f' ({params})' if params else ''}, {fix.rule}")
    if fix.speedup is not None and fix.ci is not None:
        yield from _wrapped(
            f"{times(fix.speedup)} {interval(fix.ci)}, {fix.pairs} pairs"
            + (
                f"; predicted {fix.predicted[0]:.2f} to {fix.predicted[1]:.2f}"
                if fix.predicted
                else ""
            ),
            2,
        )
    if fix.reason:
        yield from _wrapped(fix.reason, 2)
    if fix.searched:
        yield from _wrapped(searched_line(fix.searched), 2)


def _wrapped(text: str, indent: int = 0) -> list[str]:
    space = " " * indent
    return textwrap.wrap(text, WIDTH, initial_indent=space, subsequent_indent=space + "  ")
