"""The widgets: each shows lines that were made elsewhere, and repaints only when they change."""

from __future__ import annotations

from collections.abc import Sequence

from rich.text import Text
from textual.widgets import OptionList, Static
from textual.widgets.option_list import Option

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.reports.dashboard.views import finding_line


class Lines(Static):
    """Lines of text, each cut at the right edge."""

    _shown: tuple[Text, ...] | None = None

    def show(self, lines: Sequence[Text]) -> None:
        """Shows these lines."""
        if self._shown == tuple(lines) and self._styles_of(lines) == self._styles_of(self._shown):
            return
        before, self._shown = self._shown, tuple(lines)
        grows = before is None or len(before) != len(lines)
        self.update(Text("\n").join(lines), layout=grows)  # to lay out anew costs the most

    @staticmethod
    def _styles_of(lines: Sequence[Text]) -> list[object]:
        return [(line.style, line.spans) for line in lines]


class Findings(OptionList):
    """The findings of the latest diagnosis; enter opens the page of one."""

    _finding_lines: tuple[Text, ...] = ()

    def show(self, diagnosis: Diagnosis | None) -> None:
        """Shows the findings; the chosen rule stays chosen, wherever it now stands."""
        findings = () if diagnosis is None else diagnosis.findings
        lines = tuple(finding_line(one) for one in findings)
        if lines == self._finding_lines:
            return
        self._finding_lines = lines
        chosen = self.highlighted_option.id if self.highlighted_option is not None else None
        self.clear_options()
        options = []
        for number, (finding, line) in enumerate(zip(findings, lines, strict=True)):
            options.append(Option(line, id=f"{number}:{finding.rule}"))
        self.add_options(options)
        rule = chosen.partition(":")[2] if chosen else None
        rules = [one.rule for one in findings]
        if options:
            self.highlighted = rules.index(rule) if rule in rules else 0
