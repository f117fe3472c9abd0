"""The findings: evidence, the place in the source, what to change, and why."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Evidence,
    Finding,
    FixAdvice,
    Location,
    RunSummary,
)
from trainprof.reports import numbers, sentences
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.html.extras import Extras, change_of
from trainprof.reports.source import place, source_excerpt
from trainprof.reports.text import SHORT, printable, printable_code

LINES_AROUND = 3
"""Of source, shown above and below the line that is meant."""


def findings_section(diagnosis: Diagnosis, extras: Extras) -> Block:
    """All findings, the one that gives back most first."""
    found = [
        _finding(number, finding, diagnosis, extras)
        for number, finding in enumerate(diagnosis.findings, start=1)
    ]
    if not found and diagnosis.steps.count:
        found = [blocks.text("Nothing was found that is worth changing.")]
    return blocks.section("findings", "Findings, and what to do", found)


def _finding(number: int, finding: Finding, diagnosis: Diagnosis, extras: Extras) -> Block:
    severity = printable(finding.severity, SHORT)
    title = printable(finding.title or finding.rule, 2 * SHORT)
    return blocks.group(
        f"{number}. {title}",
        list(_blocks(finding, diagnosis, extras)),
        badge=severity,
        grade=severity,
    )


def _blocks(finding: Finding, diagnosis: Diagnosis, extras: Extras) -> Iterator[Block]:
    yield blocks.text(printable(finding.summary or finding.title), "lead")
    yield blocks.facts([("Predicted gain", sentences.gain_line(finding))])
    if finding.where is not None:
        yield from _excerpt(finding.where, diagnosis.run)
    for fix in finding.fixes:
        yield from _fix(fix, finding, extras)
    if finding.evidence:
        yield _evidence(finding.evidence)
    if finding.suppresses:
        names = ", ".join(printable(rule, SHORT) for rule in finding.suppresses)
        yield blocks.text(f"This explains what these rules saw as well: {names}.", "note")
    page = extras.pages.get(finding.rule)
    if page:
        yield blocks.details(
            f"Rule {printable(finding.rule, SHORT)}: why it costs time, and when it is wrong",
            [{"kind": "page", "lines": page.splitlines()}],
        )
    else:
        yield blocks.text(f"Rule {printable(finding.rule, SHORT)}.", "note")


def _excerpt(where: Location, run: RunSummary) -> Iterator[Block]:
    label = place(where)
    if where.function:
        label += f" in {printable(where.function, SHORT)}"
    first, lines = source_excerpt(where, run, LINES_AROUND)
    if lines:
        shown = [printable_code(line) for line in lines]
        yield blocks.code(shown, label, first=first, marked=where.line)
    else:
        yield blocks.facts([("Where", label)])


def _fix(fix: FixAdvice, finding: Finding, extras: Extras) -> Iterator[Block]:
    meaning = sentences.SAFETY.get(fix.safety)
    safety = printable(fix.safety, SHORT)
    rows = [("What to do", printable(fix.text))]
    if fix.where is not None and fix.where != finding.where:
        rows.append(("Where", place(fix.where)))
    rows.append(("Safety", f"{safety}: {meaning}" if meaning else safety))
    yield blocks.facts(rows)
    change = extras.diffs.get(change_of(finding, fix))
    if change:
        yield blocks.diff(change, "The change of the source, which trainprof fix can write")
    elif fix.code:
        lines = [printable_code(line) for line in fix.code.splitlines() if line.strip()]
        yield blocks.code(lines, "As it would read")


def _evidence(evidence: tuple[Evidence, ...]) -> Block:
    rows = []
    for one in evidence:
        value = printable(numbers.quantity(one.value, one.unit))
        threshold = (
            ""
            if one.threshold is None
            else printable(numbers.quantity(one.threshold, one.unit), SHORT)
        )
        rows.append(
            (printable(one.signal, SHORT), value, threshold, printable(one.source or "", 2 * SHORT))
        )
    headings = ("signal", "measured", "threshold", "where from")
    return blocks.table("Evidence", headings, rows)
