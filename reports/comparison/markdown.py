"""A comparison for a pull request."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.comparison import Comparison
from trainprof.reports.comparison import sentences
from trainprof.reports.markdown import code, escaped


class ComparisonMarkdown:
    """Renders a comparison as GitHub-flavoured Markdown; nothing from outside becomes markup."""

    def render(self, comparison: Comparison) -> str:
        """The whole text, ending in a line feed."""
        return "\n".join(_document(comparison)) + "\n"


def _document(comparison: Comparison) -> Iterator[str]:
    yield f"### {escaped(sentences.verdict_word(comparison))}"
    yield ""
    yield f"**{escaped(sentences.headline(comparison))}**"
    if comparison.gate is not None:
        yield ""
        yield f"{code('--fail-if-slower')} {escaped(sentences.gate_line(comparison.gate))}"
    basis = sentences.basis(comparison)
    if basis is not None:
        yield ""
        yield escaped(basis)
    yield from _phases(comparison)
    for line in sentences.finding_lines(comparison):
        yield ""
        yield f"Findings {escaped(line)}"
    if comparison.remarks:
        yield ""
    for remark in comparison.remarks:
        yield f"- {escaped(remark)}"
    yield from _facts(comparison)
    yield from _runs(comparison)


def _phases(comparison: Comparison) -> Iterator[str]:
    if not comparison.phases:
        return
    yield ""
    yield f"| {' | '.join(sentences.PHASE_HEADINGS)} |"
    yield "|---|--:|--:|--:|--:|"
    for phase in comparison.phases:
        yield f"| {' | '.join(map(escaped, sentences.phase_cells(phase)))} |"
    yield ""
    yield escaped(f"Time of a {comparison.per}; ~ no difference is shown.")


def _facts(comparison: Comparison) -> Iterator[str]:
    yield ""
    lines = list(sentences.fact_lines(comparison.changes))
    if not lines:
        yield "Nothing that was recorded of versions, flags and arguments is different."
        return
    yield "| different | base | candidate |"
    yield "|---|---|---|"
    for line in lines:
        yield f"| {' | '.join(map(escaped, line))} |"


def _runs(comparison: Comparison) -> Iterator[str]:
    yield ""
    yield "<details><summary>The runs</summary>"
    yield ""
    for name, runs in (("base", comparison.base), ("candidate", comparison.candidate)):
        for run in runs:
            yield f"- {name}: {escaped(sentences.run_line(run))}"
    yield ""
    yield "</details>"
