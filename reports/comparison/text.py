"""A comparison as text of 80 columns."""

from __future__ import annotations

import textwrap
from collections.abc import Iterator, Sequence

from trainprof.profiler.model.comparison import ComparedRun, Comparison
from trainprof.reports.comparison import sentences
from trainprof.reports.numbers import count
from trainprof.reports.text import inert, printable

WIDTH = 80
MOST_RUNS = 10
"""Of a group that are listed."""


class ComparisonText:
    """Renders a comparison for a terminal or a log."""

    def render(self, comparison: Comparison) -> str:
        """The whole text, ending in a line feed."""
        return "".join(f"{inert(line.rstrip())}\n" for line in _lines(comparison))


def _lines(comparison: Comparison) -> Iterator[str]:
    word, headline = sentences.verdict_word(comparison), sentences.headline(comparison)
    yield from _wrapped(f"{word}{', ' if comparison.ratio is None else ': '}{headline}")
    if comparison.gate is not None:
        yield from _wrapped(f"--fail-if-slower {sentences.gate_line(comparison.gate)}")
    yield ""
    basis = sentences.basis(comparison)
    if basis is not None:
        yield from _labelled("runs", basis)
    yield from _group("base", comparison.base)
    yield from _group("candidate", comparison.candidate)
    yield from _phases(comparison)
    for title, lines in (
        ("Findings that only one side has", list(sentences.finding_lines(comparison))),
        ("Remarks", list(comparison.remarks)),
    ):
        if lines:
            yield ""
            yield title
            for line in lines:
                yield from _wrapped(f"- {printable(line)}")
    yield from _facts(comparison)


def _group(name: str, runs: Sequence[ComparedRun]) -> Iterator[str]:
    for place, run in enumerate(runs[:MOST_RUNS]):
        yield from _labelled(name if place == 0 else "", sentences.run_line(run))
    if len(runs) > MOST_RUNS:
        yield from _labelled("", f"and {count(len(runs) - MOST_RUNS)} more")


def _phases(comparison: Comparison) -> Iterator[str]:
    if not comparison.phases:
        return
    yield ""
    yield _row(sentences.PHASE_HEADINGS)
    for phase in comparison.phases:
        yield _row(sentences.phase_cells(phase))
    yield from _wrapped(f"Time of a {comparison.per}; ~ no difference is shown.")


def _row(cells: Sequence[str]) -> str:
    name, base, candidate, change, interval = cells
    return f"{name:<19}{base:>10}{candidate:>11}{change:>13}{interval:>26}"


def _facts(comparison: Comparison) -> Iterator[str]:
    yield ""
    lines = list(sentences.fact_lines(comparison.changes))
    if not lines:
        yield "Nothing that was recorded of versions, flags and arguments is different."
        return
    yield "What is different"
    for name, base, candidate in lines:
        yield from _wrapped(f"{name}: {base} -> {candidate}", 2)


def _labelled(label: str, text: str) -> list[str]:
    return _filled(text, f"{label:<11}", " " * 11)


def _wrapped(text: str, indent: int = 0) -> list[str]:
    return _filled(text, " " * indent, " " * (indent + 2))


def _filled(text: str, first: str, then: str) -> list[str]:
    return textwrap.wrap(
        text, WIDTH, initial_indent=first, subsequent_indent=then, break_on_hyphens=False
    )
