"""A comparison in each form: nothing from outside becomes markup, lines are as wide as they may."""

import dataclasses
import re
from html.parser import HTMLParser

import pytest

from trainprof.reports.comparison import sentences
from trainprof.reports.comparison.html import ComparisonHtml
from trainprof.reports.comparison.json_report import ComparisonJson
from trainprof.reports.comparison.markdown import ComparisonMarkdown
from trainprof.reports.comparison.text import ComparisonText
from trainprof.rules.comparison import compare

NASTY = (
    "</script><img src=x onerror=alert(1)> [red]red[/red] \x1b[31mansi\x1b]0;title\x07\r\n"
    "::error::injected **bold** `code` | cell \u202egnol \udcff <!-- @all "
)
REPORTS = [ComparisonText(), ComparisonJson(), ComparisonHtml(), ComparisonMarkdown()]


@pytest.fixture
def slower(judged):
    base = [judged(0.010 * noise, name=f"old-{noise}") for noise in (0.99, 1.0, 1.01)]
    candidate = [
        judged(0.012 * noise, name=f"new-{noise}", commit="bbb", findings=("loop-gc",))
        for noise in (0.99, 1.0, 1.01)
    ]
    return compare(base, candidate, 0.05)


@pytest.fixture
def hostile(judged):
    long = "n" * 100_000
    base = judged(name=NASTY, argv=(NASTY, long), environment={NASTY: NASTY}, commit=long)
    candidate = judged(
        name=long,
        ended=NASTY,
        findings=(NASTY,),
        facts={"loader": {NASTY: {NASTY: [NASTY, long]}}},
    )
    return compare([base], [candidate], 0.05)


@pytest.fixture
def undecided(judged):
    return compare([judged(steps=0, steady=0, mean_s=None)], [judged()], 0.05)


class Reader(HTMLParser):
    """Collects tags, and the attributes that could load or run something."""

    def __init__(self):
        super().__init__()
        self.tags, self.active = set(), []

    def handle_starttag(self, tag, attributes):
        self.tags.add(tag)
        self.active += [
            name for name, _ in attributes if name in ("src", "href") or name[:2] == "on"
        ]


@pytest.mark.parametrize("report", REPORTS, ids=lambda one: type(one).__name__)
@pytest.mark.parametrize("kind", ["slower", "hostile", "undecided"])
def test_no_report_lets_control_codes_or_commands_through(report, kind, request):
    text = report.render(request.getfixturevalue(kind))
    assert "\x1b" not in text
    if not isinstance(report, ComparisonJson):  # which holds every text as it is
        assert "\u202e" not in text
        text.encode()
        assert not re.search(r"^\s*::", text, re.MULTILINE)
    assert len(text) < 600_000
    assert text.endswith("\n")


def test_html_stands_alone_and_holds_no_script(slower, hostile, undecided):
    for comparison in (slower, hostile, undecided):
        text = ComparisonHtml().render(comparison)
        reader = Reader()
        reader.feed(text)
        assert reader.active == []
        assert reader.tags.isdisjoint({"script", "img", "link", "iframe"})
        assert "://" not in text
        assert len(text) < 50_000


def test_markdown_makes_nothing_of_what_is_hostile(hostile):
    text = ComparisonMarkdown().render(hostile)
    assert "<img" not in text.replace("\\<", "")
    assert "<!--" not in text.replace("\\<", "")
    rows = [line for line in text.splitlines() if line.startswith("| ")]
    assert {len(re.findall(r"(?<!\\)\|", row)) for row in rows} <= {4, 6}


def test_text_keeps_to_80_columns(slower, hostile, undecided):
    for comparison in (slower, hostile, undecided):
        assert max(map(len, ComparisonText().render(comparison).splitlines())) <= 80


def test_the_text_says_what_a_reader_needs(slower):
    text = ComparisonText().render(slower)
    lines = text.splitlines()
    assert lines[0].startswith("Slower: a step of the candidate takes 20 % more time (95 %")
    assert "--fail-if-slower failed: the candidate is slower by more than 5.0 %." in lines
    assert "- new: loop-gc" in lines
    assert "  command: commit: unknown -> bbb" in lines
    assert re.search(r"^forward +4 ms +4.8 ms +\+800 µs +\+\d+ µs to \+\d+ µs$", text, re.MULTILINE)


def test_no_report_says_nan_or_none(slower, judged):
    ratio = dataclasses.replace(slower.ratio, low=float("nan"), high=float("inf"))
    for report in (ComparisonText(), ComparisonHtml(), ComparisonMarkdown()):
        text = report.render(dataclasses.replace(slower, ratio=ratio))
        assert not re.search(r"\b(nan|inf|None)\b", text)


@pytest.mark.parametrize(
    ("old", "new", "said"),
    [(1, 1, "1 run against 1:"), (3, 1, "3 runs against 1:"), (3, 4, "3 runs against 4;")],
)
def test_how_many_runs_in_words(judged, old, new, said):
    base, candidate = ([judged(0.01 + n / 1e5, at_s=at + n) for n in range(count)]
                       for at, count in ((0.0, old), (100.0, new)))  # fmt: skip
    assert sentences.basis(compare(base, candidate)).startswith(said)


@pytest.mark.parametrize(
    ("ratio", "said"),
    [(1.12, "12 % more"), (0.97, "3.0 % less"), (1.0001, "the same"), (3.0, "200 % more")],
)
def test_ratios_in_words(ratio, said):
    assert sentences.change(ratio) == said
