"""The report a person reads in the terminal."""

from __future__ import annotations

from trainprof.reports.terminal.report import TerminalReport, print_diagnosis

__all__ = ["TerminalReport", "print_diagnosis"]
