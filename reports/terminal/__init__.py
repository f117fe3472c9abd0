"""The report a person reads in the terminal."""

from __future__ import annotations

from trainprof.reports.terminal.report import (
    TerminalReport,
    is_styled,
    print_diagnosis,
    terminal_width,
    write_text,
)

__all__ = ["TerminalReport", "is_styled", "print_diagnosis", "terminal_width", "write_text"]
