"""The views below the panels as lines of text: findings, hot stacks, events. No textual in here.

The lines about a tune's trials are in trials.py, those of the script's output in output_pane.py.
"""

from __future__ import annotations

import textwrap

from rich.text import Text

from trainprof.profiler.model.diagnosis import Diagnosis, Finding
from trainprof.profiler.model.phases import PHASES
from trainprof.reports import numbers
from trainprof.reports.dashboard.board import Board, ShownEvent
from trainprof.reports.dashboard.panels import LABEL_WIDTH, labelled
from trainprof.reports.phases import phase_label
from trainprof.reports.sentences import evidence_line, gain_line
from trainprof.reports.source import place
from trainprof.reports.text import SHORT, printable

_SEVERITY_STYLES = {"critical": "bold black on light_coral", "warn": "bold black on gold1"}


def views_line(board: Board, current: str) -> Text:
    """The lower views; the one that is shown stands in brackets."""
    findings = len(board.diagnosis.findings) if board.diagnosis is not None else 0
    trials = len(board.tune.attempts) if board.tune is not None else 0
    labels = {
        **({"trials": f"trials {trials}"} if board.tune is not None else {}),
        "findings": f"findings {findings}",
        "stacks": "hot stacks",
        "events": f"events {len(board.events)}",
        "output": "output",
    }
    text = Text()
    for name, label in labels.items():
        shown = f"[{label}]" if name == current else f" {label} "
        text.append(shown, style="bold" if name == current else "")
        text.append(" ")
    if board.events:
        text.append(" latest: ")
        text.append_text(event_line(board.events[-1], ranks=len(board.training()) > 1))
    return text


def finding_line(finding: Finding) -> Text:
    """Severity, rule, gain and what was found, in one line."""
    gain = ""
    if finding.gain is not None:
        gain = f"{numbers.ratio(finding.gain.low, finding.gain.high)} faster · "
    severity = printable(finding.severity, 10)
    text = finding.summary or finding.title
    return Text.assemble(
        (f" {severity} ", _SEVERITY_STYLES.get(severity, "bold")),
        (f" {printable(finding.rule, 40)} ", "bold"),
        f"{gain}{printable(text)}",
    )


def detail_lines(board: Board, chosen: int | None, width: int) -> list[Text]:
    """Place, fix, gain and evidence of one finding; first what it is, where the list cuts that."""
    findings = board.diagnosis.findings if board.diagnosis is not None else ()
    if chosen is None or chosen >= len(findings):
        return []
    finding = findings[chosen]
    rows = [("fix", printable(fix.text)) for fix in finding.fixes[:1]]
    rows.append(("gain", gain_line(finding)))
    rows += [("seen", evidence_line(one)) for one in finding.evidence]
    if finding.where is not None:
        rows.insert(0, ("at", place(finding.where)))
    if finding_line(finding).cell_len > width:
        rows.insert(0, ("found", printable(finding.summary or finding.title)))
    return [line for label, text in rows for line in _wrapped(label, text, width)]


def _wrapped(label: str, text: str, width: int) -> list[Text]:
    """A text of as many lines as it takes, its label before the first."""
    parts = textwrap.wrap(text, max(width - LABEL_WIDTH, 20)) or [""]
    labels = [label, *[""] * (len(parts) - 1)]
    return [labelled(one, Text(part)) for one, part in zip(labels, parts, strict=True)]


def stack_lines(diagnosis: Diagnosis | None, most: int = 40) -> list[Text]:
    """The hottest stacks of each phase, from the diagnosis."""
    if diagnosis is None or not diagnosis.stacks:
        return [Text("No stacks were sampled so far.")]
    sampled = [
        (time_ms, phase, stack)
        for phase, stacks in diagnosis.stacks.items()
        for stack, time_ms in stacks.items()
    ]
    total_ms = sum(time_ms for time_ms, _, _ in sampled)
    order = {name: position for position, name in enumerate(PHASES)}
    sampled.sort(key=lambda one: (-one[0], order.get(one[1], len(order)), one[2]))
    return [
        Text.assemble(
            (f"{numbers.share(time_ms / total_ms):>6} ", "bold"),
            (f"{phase_label(phase)}: ", "bold"),
            printable(" < ".join(_short_frames(stack))),
        )
        for time_ms, phase, stack in sampled[:most]
    ]


def _short_frames(stack: str) -> list[str]:
    """The innermost frame first, files by their last name; ours are left out."""
    frames = []
    for frame in reversed(stack.split(";")):
        function, _, file = frame.rpartition(" (")
        if not function:
            frames.append(frame)
        elif "/profiler/agent/" not in file:
            frames.append(f"{function} ({file.rpartition('/')[2]}")
    return frames


def event_line(shown: ShownEvent, *, ranks: bool) -> Text:
    """When, what and how long; whose, where there are several ranks."""
    event = shown.event
    at = numbers.seconds(float(round(shown.at_s, 1)))
    whose = f" rank {shown.rank}" if ranks else ""
    took = f" took {numbers.seconds(event.duration_ns / 1e9)}" if event.duration_ns else ""
    note = _event_note(event.data)
    return Text(f"at {at}{whose}: {printable(event.kind, SHORT)}{took}{note}")


def _event_note(data: dict[str, object]) -> str:
    words = []
    for key in ("file", "message", "manual", "frames", "recompiles", "reason"):
        value = data.get(key)
        if isinstance(value, bool) and value:
            words.append(key)
        elif value and not isinstance(value, bool):
            words.append(
                printable(value, SHORT) if key in ("file", "message") else f"{key} {value}"
            )
    return f" ({', '.join(words)})" if words else ""
