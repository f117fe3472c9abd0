"""Parsers for the text of /proc; each returns None for what is not there, and never raises."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple


class ProcessStat(NamedTuple):
    """Some fields of /proc/PID/stat.

    Attributes:
        state: One letter; Z and X are processes that have ended.
        major_faults: Pages read from a disk so far (field 12).
        started_ticks: When it started, in ticks since the boot (field 22).
    """

    state: str
    major_faults: int
    started_ticks: int


def read_text(path: Path | str) -> str | None:
    """The text of a small kernel file; None where it is absent or may not be read."""
    try:
        with open(path, "rb", buffering=0) as file:  # a third of what Path.read_text takes
            return file.readall().decode("utf-8", "replace")
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


def parse_table(text: str | None, names: tuple[str, ...] = ()) -> dict[str, int]:
    """Lines of `name value [unit]` (vmstat, cpu.stat, smaps_rollup); units are dropped.

    Args:
        text: The file.
        names: What is wanted of a long file; all without any.
    """
    table = {}
    for line in (text or "").splitlines():
        if names and not line.startswith(names):
            continue
        words = line.split()
        value = parse_integer(words[1]) if len(words) >= 2 else None
        if value is not None:
            table[words[0].rstrip(":")] = value
    return table


def parse_run_delay(text: str | None) -> int | None:
    """Second field of /proc/PID/schedstat: nanoseconds spent waiting for a CPU."""
    words = (text or "").split()
    return parse_integer(words[1]) if len(words) >= 2 else None


def parse_process_stat(text: str | None) -> ProcessStat | None:
    """What is read of a /proc/PID/stat; the name in its field 2 may hold blanks and parentheses."""
    words = (text or "").rpartition(")")[2].split()
    if len(words) < 20:
        return None
    major_faults, started_ticks = parse_integer(words[9]), parse_integer(words[19])
    if major_faults is None or started_ticks is None:
        return None
    return ProcessStat(words[0], major_faults, started_ticks)
