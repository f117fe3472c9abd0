"""A comparison as one small HTML file that opens offline; it holds no script at all."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from html import escape

from trainprof.profiler.model.comparison import ComparedRun, Comparison, Ratio
from trainprof.reports.comparison import sentences
from trainprof.reports.text import printable

_STYLE = """
:root { color-scheme: light dark; --edge: #8886; --slow: #c62828; --fast: #2e7d32; }
@media (prefers-color-scheme: dark) { :root { --slow: #ff8a80; --fast: #81c784; } }
body { font: 16px/1.5 system-ui, sans-serif; margin: 0 auto; max-width: 60rem; padding: 1rem; }
h1 { font-size: 1.4rem; } h2 { font-size: 1.1rem; margin-top: 2rem; }
.scroll { overflow-x: auto; }
table { border-collapse: collapse; font-variant-numeric: tabular-nums; width: 100%; }
th, td { border-bottom: 1px solid var(--edge); padding: .3rem .6rem; text-align: left;
  overflow-wrap: anywhere; vertical-align: top; }
td.number, th.number { text-align: right; white-space: nowrap; }
svg { display: block; max-width: 100%; height: auto; }
svg text { font: 12px system-ui, sans-serif; fill: currentColor; }
.slower { color: var(--slow); } .faster { color: var(--fast); }
"""
_POLICY = "default-src 'none'; style-src 'unsafe-inline'"

_WIDTH, _HEIGHT, _MARGIN = 640.0, 70.0, 40.0
_LEAST_SPAN = 1.1
"""The axis shows at least 10 % to either side, so that noise does not look large."""


class ComparisonHtml:
    """Renders a comparison as HTML; nothing from outside becomes markup."""

    def render(self, comparison: Comparison) -> str:
        """The whole file."""
        return "\n".join(_document(comparison)) + "\n"


def _document(comparison: Comparison) -> Iterator[str]:
    word = sentences.verdict_word(comparison)
    yield '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">'
    yield '<meta name="viewport" content="width=device-width, initial-scale=1">'
    yield f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">'
    yield f"<title>{_text(f'trainprof: {word}')}</title>\n<style>{_STYLE}</style>\n</head>"
    yield "<body>\n<main>"
    yield f'<h1 class="{_text(comparison.verdict)}">{_text(word)}</h1>'
    yield f"<p><strong>{_text(sentences.headline(comparison))}</strong></p>"
    if comparison.gate is not None:
        yield f"<p><code>--fail-if-slower</code> {_text(sentences.gate_line(comparison.gate))}</p>"
    if comparison.ratio is not None:
        yield from _drawn(comparison.ratio, sentences.headline(comparison))
    basis = sentences.basis(comparison)
    if basis is not None:
        yield f"<p>{_text(basis)}</p>"
    yield from _phases(comparison)
    yield from _list("Findings that only one side has", list(sentences.finding_lines(comparison)))
    yield from _list("Remarks", comparison.remarks)
    yield from _facts(comparison)
    yield from _runs(comparison)
    yield "</main>\n</body>\n</html>"


def _drawn(ratio: Ratio, description: str) -> Iterator[str]:
    """The interval on an axis of ratios, the base in the middle."""
    bounds = (ratio.low, ratio.point, ratio.high)
    if not all(math.isfinite(bound) and bound > 0.0 for bound in bounds):
        return
    span = max(math.log(_LEAST_SPAN), *(abs(math.log(bound)) for bound in bounds))

    def place(value: float) -> float:
        return _WIDTH / 2 + math.log(value) / span * (_WIDTH / 2 - _MARGIN)

    low, point, high = map(place, bounds)
    colour = "slower" if ratio.low > 1.0 else "faster" if ratio.high < 1.0 else ""
    middle = _WIDTH / 2
    yield f'<svg viewBox="0 0 {_WIDTH:g} {_HEIGHT:g}" role="img" aria-label="{_text(description)}">'
    yield f'<line x1="{middle:g}" y1="8" x2="{middle:g}" y2="48" stroke="currentColor"/>'
    yield f'<text x="{middle:g}" y="64" text-anchor="middle">the base</text>'
    yield '<text x="0" y="64">faster</text>'
    yield f'<text x="{_WIDTH:g}" y="64" text-anchor="end">slower</text>'
    yield f'<g class="{colour}" stroke="currentColor" fill="currentColor">'
    yield f'<line x1="{low:.1f}" y1="28" x2="{high:.1f}" y2="28" stroke-width="4"/>'
    yield f'<circle cx="{point:.1f}" cy="28" r="6"/></g></svg>'


def _phases(comparison: Comparison) -> Iterator[str]:
    if not comparison.phases:
        return
    yield f"<h2>Time of a {_text(comparison.per)}, by phase</h2>"
    rows = [sentences.phase_cells(phase) for phase in comparison.phases]
    yield from _table(sentences.PHASE_HEADINGS, rows, numbers_from=1)
    yield "<p>~ no difference is shown.</p>"


def _facts(comparison: Comparison) -> Iterator[str]:
    yield "<h2>What is different</h2>"
    lines = list(sentences.fact_lines(comparison.changes))
    if not lines:
        yield "<p>Nothing that was recorded of versions, flags and arguments.</p>"
        return
    yield from _table(("what", "base", "candidate"), lines, numbers_from=3)


def _runs(comparison: Comparison) -> Iterator[str]:
    def lines(name: str, runs: Sequence[ComparedRun]) -> list[str]:
        return [f"{name}: {sentences.run_line(run)}" for run in runs]

    yield from _list(
        "The runs", [*lines("base", comparison.base), *lines("candidate", comparison.candidate)]
    )


def _table(
    headings: Sequence[str], rows: Sequence[Sequence[str]], *, numbers_from: int
) -> Iterator[str]:
    def cells(tag: str, row: Sequence[str]) -> str:
        kinds = (' class="number"' if place >= numbers_from else "" for place in range(len(row)))
        pairs = zip(kinds, map(_text, row), strict=True)
        return "".join(f"<{tag}{kind}>{cell}</{tag}>" for kind, cell in pairs)

    yield '<div class="scroll"><table>'
    yield f"<thead><tr>{cells('th', headings)}</tr></thead>\n<tbody>"
    for row in rows:
        yield f"<tr>{cells('td', row)}</tr>"
    yield "</tbody></table></div>"


def _list(title: str, lines: Sequence[str]) -> Iterator[str]:
    if not lines:
        return
    yield f"<h2>{_text(title)}</h2>\n<ul>"
    for line in lines:
        yield f"<li>{_text(line)}</li>"
    yield "</ul>"


def _text(value: str) -> str:
    return escape(printable(value))
