"""Parsers for the text of /proc; each returns None for what is not there, and never raises."""

from __future__ import annotations

from pathlib import Path


def read_text(path: Path) -> str | None:
    """The text of a small kernel file; None where it is absent or may not be read."""
    try:
        return path.read_text("utf-8", "replace")
    except OSError:
        return None


def parse_integer(text: str | None) -> int | None:
    """The integer that `text` is; None for anything else ("max", for one)."""
    try:
        return int(text) if text is not None else None
    except ValueError:
        return None


def parse_pressure(text: str | None) -> dict[str, int]:
    """`total` of each line of a PSI file (/proc/pressure/*), in µs: {"some": 12, "full": 3}."""
    totals = {}
    for line in (text or "").splitlines():
        kind, *pairs = line.split() or [""]
        for pair in pairs:
            name, _, value = pair.partition("=")
            total = parse_integer(value)
            if name == "total" and total is not None:
                totals[kind] = total
    return totals


def parse_table(text: str | None) -> dict[str, int]:
    """Lines of `name value [unit]` (vmstat, cpu.stat, smaps_rollup, meminfo); units are dropped."""
    table = {}
    for line in (text or "").splitlines():
        words = line.split()
        value = parse_integer(words[1]) if len(words) >= 2 else None
        if value is not None:
            table[words[0].rstrip(":")] = value
    return table


def parse_run_delay(text: str | None) -> int | None:
    """Second field of /proc/PID/schedstat: nanoseconds spent waiting for a CPU."""
    words = (text or "").split()
    return parse_integer(words[1]) if len(words) >= 2 else None


def parse_major_faults(text: str | None) -> int | None:
    """Field 12 of /proc/PID/stat; the name in field 2 may hold blanks and parentheses."""
    words = (text or "").rpartition(")")[2].split()
    return parse_integer(words[9]) if len(words) >= 10 else None
