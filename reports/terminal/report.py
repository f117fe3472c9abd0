"""Lays a diagnosis out for a terminal or a pipe; rich is imported only when something is shown."""

from __future__ import annotations

import os
import sys
from collections.abc import Mapping
from io import StringIO
from typing import TextIO

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.reports.text import inert

MIN_WIDTH = 20
MAX_WIDTH = 120
"""Longer lines are hard to read, however wide the window."""


class TerminalReport:
    """Renders a diagnosis as text.

    Args:
        width: Columns of the text.
        styled: Whether colours and emphasis may be used; without them the text holds no control
            codes at all. Nothing is told by colour alone.
        brief: Only the verdict and one line per finding.
    """

    def __init__(self, *, width: int = 80, styled: bool = False, brief: bool = False) -> None:
        self.width = max(MIN_WIDTH, min(width, MAX_WIDTH))
        self.styled = styled
        self.brief = brief

    def render(self, diagnosis: Diagnosis) -> str:
        """The whole report, ending in a line feed."""
        from rich.console import Console

        from trainprof.reports.terminal.sections import Layout

        buffer = StringIO()
        console = Console(
            file=buffer,
            width=self.width,
            force_terminal=self.styled,
            force_jupyter=False,
            color_system="standard" if self.styled else None,
            no_color=False,
            legacy_windows=False,
            markup=False,
            emoji=False,
            highlight=False,
        )
        layout = Layout(self.width, self.styled)
        for part in layout.brief(diagnosis) if self.brief else layout.whole(diagnosis):
            console.print(part, crop=False)  # what may not be wrapped is left whole
        text = buffer.getvalue()
        if not self.styled:  # columns are padded with blanks
            text = "".join(f"{inert(line.rstrip())}\n" for line in text.splitlines())
        return text


def print_diagnosis(diagnosis: Diagnosis, file: TextIO | None = None, brief: bool = False) -> None:
    """Writes the report to `file` (stderr by default), in the form that suits it."""
    stream: TextIO | None = sys.stderr if file is None else file
    if stream is None:
        return
    report = TerminalReport(width=terminal_width(stream), styled=is_styled(stream), brief=brief)
    write_text(report.render(diagnosis), stream)


def write_text(text: str, stream: TextIO | None) -> None:
    """Writes and flushes `text`; what the stream's encoding lacks becomes "?".

    A stream that was closed before Python started is None, and gets nothing.
    """
    if stream is None:
        return
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(text.encode(encoding, "replace").decode(encoding))
    stream.flush()


def is_styled(stream: TextIO | None, environment: Mapping[str, str] = os.environ) -> bool:
    """Whether `stream` is a terminal that wants control codes (https://no-color.org)."""
    if environment.get("NO_COLOR") or environment.get("TERM", "") in ("", "dumb", "unknown"):
        return False
    return stream is not None and stream.isatty()


def terminal_width(stream: TextIO, environment: Mapping[str, str] = os.environ) -> int:
    """Columns of `stream`: COLUMNS, the terminal's own answer, or 80 where there is none."""
    given = environment.get("COLUMNS", "")
    if given.isdecimal() and int(given) > 0:
        return int(given)
    try:
        return os.get_terminal_size(stream.fileno()).columns or 80
    except (OSError, ValueError, AttributeError):
        return 80
