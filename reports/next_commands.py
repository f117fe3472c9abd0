"""What to type next, shown at the end of a report."""

from __future__ import annotations

import shlex

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.reports.source import short_path


def next_commands(diagnosis: Diagnosis) -> list[tuple[str, str]]:
    """(command, what it does) pairs; a test checks that every command is registered."""
    commands = []
    path = diagnosis.run.path
    if diagnosis.findings:
        rule = shlex.quote(diagnosis.findings[0].rule)
        commands.append((f"trainprof rules {rule}", "to read why, and when it is wrong"))
    if diagnosis.findings and path:
        folder = shlex.quote(short_path(path))
        commands.append((f"trainprof diagnose {folder} --format markdown", "to pass this on"))
    lost = any(collector.status != "ok" for collector in diagnosis.collectors)
    if diagnosis.verdict == "insufficient" and lost:
        commands.append(("trainprof doctor", "to see what can be measured here"))
    return commands
