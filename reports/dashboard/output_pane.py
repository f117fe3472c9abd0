"""The pane that shows what the script prints: it follows, scrolls and searches."""

from __future__ import annotations

from typing import ClassVar

from rich.text import Text
from textual.binding import Binding, BindingType
from textual.widgets import Static

from trainprof.reports.dashboard.output import Output
from trainprof.reports.text import printable


class OutputPane(Static, can_focus=True):
    """A window on the lines of an `Output`.

    Attributes:
        follows: Whether new lines push the old ones up.
        words: What is searched for.
    """

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("up", "scroll_by(-1)", show=False),
        Binding("down", "scroll_by(1)", show=False),
        Binding("pageup", "page(-1)", show=False),
        Binding("pagedown", "page(1)", show=False),
        Binding("home", "scroll_by(-1000000)", show=False),
        Binding("end,f", "follow", show=False),
        Binding("n", "search_on", show=False),
    ]

    def __init__(self, output: Output, *, id: str | None = None) -> None:
        super().__init__(id=id)
        self._output = output
        self.follows = True
        self.words = ""
        self._bottom = 0  # number of the line below the last one shown, counted from the first ever
        self._found: int | None = None

    def refresh_lines(self) -> None:
        """Shows the lines as they are now."""
        lines = self._output.lines()
        height = max(1, self.size.height - 1)
        end = self._output.first + len(lines)
        if self.follows:
            self._bottom = end
        self._bottom = min(max(self._bottom, self._output.first + min(height, len(lines))), end)
        last = self._bottom - self._output.first
        first = max(0, last - height)
        shown = [self._line(line, first + i) for i, line in enumerate(lines[first:last])]
        shown += [Text("")] * (height - len(shown))
        self.update(Text("\n").join([*shown, self._status(len(lines), last)]), layout=False)

    def _line(self, line: str, index: int) -> Text:
        text = Text(printable(line, max(3, self.size.width)))
        if self.words:
            text.highlight_words([self.words], "bold reverse", case_sensitive=False)
        found = self._found is not None and self._found == self._output.first + index
        return Text.assemble("» ", text) if found else text

    def _status(self, count: int, last: int) -> Text:
        if not count:
            return Text("No output so far; it is kept of runs with `run --tui`.", style="bold")
        state = "follows" if self.follows else f"line {last:,} of {count:,} · f follows"
        search = f" · n next {self.words!r}" if self.words else " · / searches"
        return Text(f"output: {state}{search}", style="bold")

    def action_scroll_by(self, lines: int) -> None:
        """Goes up or down by so many lines; at the end it follows again."""
        end = self._output.first + len(self._output.lines())
        self._bottom = min(end, self._bottom + lines)
        self.follows = self._bottom >= end
        self.refresh_lines()

    def action_page(self, pages: int) -> None:
        """Goes up or down by so many pages."""
        self.action_scroll_by(pages * max(1, self.size.height - 2))

    def action_follow(self) -> None:
        """Goes to the end and stays there."""
        self.follows, self._found = True, None
        self.refresh_lines()

    def search(self, words: str) -> bool:
        """Goes to the last line that has the words; False where there is none."""
        self.words, self._found = words, None
        return self.action_search_on()

    def action_search_on(self) -> bool:
        """Goes to the next older line that has the words; from the end on after the oldest."""
        if not self.words:
            return False
        first = self._output.first
        before = len(self._output.lines()) if self._found is None else self._found - first
        index = self._output.find(self.words, before)
        if index is None:
            self.refresh_lines()
            return False
        self._found = first + index
        self._bottom = self._found + 1 + max(1, self.size.height - 1) // 2
        self.follows = False
        self.refresh_lines()
        return True
