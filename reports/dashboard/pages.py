"""The pages over the board: a finding with its rule, stacks, and the help."""

from __future__ import annotations

from dataclasses import replace
from typing import ClassVar

from rich.console import Group
from rich.markdown import Markdown
from rich.text import Text
from textual.app import ComposeResult
from textual.binding import BindingType
from textual.containers import VerticalScroll
from textual.screen import Screen
from textual.widgets import Static

from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.reports.terminal.sections import Layout
from trainprof.reports.text import printable

PAGE_COLUMNS = 96
HELP = """\
t        ask for a trace of the next steps; it lies in the run folder
s        what Python does now, in the rank that is looked at
space    freeze the screen; what the run writes is read all the same
r ] [    next or previous rank; all ranks together come first
tab      the view below: findings, hot stacks, events, output; of a tune
         the trials come first
o        what the script prints, if it was started with `run --tui`;
         there / searches, n goes on, f follows
up down  choose a finding
enter    open its page: evidence, fix, and when the rule is wrong
c        copy the command that writes its fix (in terminals with OSC 52)
l        light or dark
q        quit; a training that runs is not disturbed

last 10 s  where the time of the steps went that ended in them
all steps  the same of the steady steps, as `trainprof diagnose` tells it
unchanged  while a tune runs a trial: all steps of the unchanged script

D data wait  H copy to device  F forward  L loss  B backward
O optimizer  N communication  S synchronise  V validation  C checkpoint
P logging  G garbage collection  T torch.compile  R rest of the loop
"""


class TextPage(Screen[None]):
    """A text to read."""

    BINDINGS: ClassVar[list[BindingType]] = [
        ("escape,q,enter", "app.pop_screen", "back"),
    ]

    def __init__(self, title: str, text: str) -> None:
        super().__init__()
        self._heading = title
        self._text = text

    def compose(self) -> ComposeResult:
        """Its title, and the text, which scrolls."""
        yield Static(Text(f" {self._heading} · escape goes back"), classes="page-title")
        with VerticalScroll():
            yield Static(self.content(), classes="page")

    def content(self) -> Text | Group:
        """What is read."""
        lines = [printable(line) for line in self._text.splitlines()]
        return Text("\n".join(lines))


class HelpPage(TextPage):
    """The keys, and what the bars mean."""

    def __init__(self) -> None:
        super().__init__("Help", HELP)


class FindingPage(TextPage):
    """One finding as the report shows it, then the page of its rule."""

    def __init__(self, number: int, finding: Finding, diagnosis: Diagnosis, page: str) -> None:
        super().__init__(printable(finding.rule), page)
        self._number = number
        self._finding = finding
        self._diagnosis = diagnosis

    def content(self) -> Group:
        """Evidence, fix and gain; the rule's page below."""
        layout = Layout(PAGE_COLUMNS, True)
        alone = replace(self._diagnosis, headline="")  # no headline stands above it here
        parts = list(layout.finding(self._number, self._finding, alone))
        return Group(*parts, Text(), Markdown(self._text, hyperlinks=False))
