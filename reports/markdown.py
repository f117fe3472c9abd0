"""The report for pull requests and chat."""

from __future__ import annotations

import re
from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import DeviceTime, Diagnosis, Finding, ThreadTime
from trainprof.reports import numbers, sentences, trace_sentences
from trainprof.reports.next_commands import next_commands
from trainprof.reports.phases import phase_rows
from trainprof.reports.source import place, source_line
from trainprof.reports.text import SHORT, inert, printable

_SPECIAL = re.compile(r"[\\`*\[\]<>#|~$&@]|(?<![^\W_])_|_(?![^\W_])|:(?=\w+:)")
"""Where Markdown, HTML in Markdown, a reference or an :emoji: could begin; not inside_a_word."""


class MarkdownReport:
    """Renders a diagnosis as GitHub-flavoured Markdown; nothing from outside becomes markup."""

    def render(self, diagnosis: Diagnosis) -> str:
        """The whole report, ending in a line feed."""
        return "\n".join(_document(diagnosis)) + "\n"


def escaped(text: object) -> str:
    """Text from outside as Markdown that shows exactly it, on one line."""
    return _SPECIAL.sub(r"\\\g<0>", printable(text))


def code(text: object) -> str:
    """Text from outside as a code span; the fence is longer than any run of backticks inside."""
    shown = printable(text)
    longest = max((len(run) for run in re.findall(r"`+", shown)), default=0)
    fence = "`" * (longest + 1)
    blank = " " if longest else ""
    return f"{fence}{blank}{shown}{blank}{fence}"


def _document(diagnosis: Diagnosis) -> Iterator[str]:
    yield from _session(diagnosis)
    for other in diagnosis.other_sessions:
        yield ""
        yield f"## Training {other.run.session + 1} of {len(diagnosis.other_sessions) + 1}"
        yield ""
        yield from _session(other)
    if diagnosis.source != "trace":  # whoever recorded it knows what that cost
        yield ""
        yield f"trainprof itself: {escaped(sentences.overhead_line(diagnosis))}"
    for command, purpose in next_commands(diagnosis):
        yield ""
        yield f"{code(command)}: {purpose}"


def _session(diagnosis: Diagnosis) -> Iterator[str]:
    yield f"### {escaped(sentences.verdict_word(diagnosis))}"
    yield ""
    yield f"**{escaped(sentences.headline(diagnosis))}**"
    caution = sentences.caution(diagnosis)
    if caution:
        yield ""
        yield escaped(caution)
    yield ""
    for label, text in sentences.run_lines(diagnosis):
        yield f"- {label}: {escaped(text)}"
    yield from _phases(diagnosis)
    for device in diagnosis.devices:
        yield from _device(device)
    if diagnosis.training_thread is not None:
        yield from _thread(diagnosis.training_thread)
    yield from _kernels(diagnosis)
    yield from _critical_path(diagnosis)
    for number, finding in enumerate(diagnosis.findings, start=1):
        yield from finding_lines(number, finding, diagnosis)
    remarks = sentences.remarks(diagnosis)
    if remarks:
        yield ""
    for remark in remarks:
        yield f"- {escaped(remark)}"
    yield from _unseen(sentences.unseen(diagnosis))


def _phases(diagnosis: Diagnosis) -> Iterator[str]:
    rows = phase_rows(diagnosis.steps)
    if not rows:
        return
    yield ""
    yield "| phase | share | a step | on CPU | waiting for a CPU | blocked |"
    yield "|---|--:|--:|--:|--:|--:|"
    for row in rows:
        time = row.time
        states = (time.cpu_s_per_step, time.run_queue_s_per_step, time.blocked_s_per_step)
        shown = ("" if value is None else numbers.seconds(value) for value in states)
        mark = " (inferred)" if time.inferred else ""
        cells = (
            f"{escaped(row.label)}{mark}",
            numbers.share(time.share),
            numbers.seconds(time.s_per_step),
            *shown,
        )
        yield f"| {' | '.join(cells)} |"


def _device(device: DeviceTime) -> Iterator[str]:
    yield ""
    yield escaped(trace_sentences.device_heading(device))
    yield ""
    yield "| the device | share | time |"
    yield "|---|--:|--:|"
    for label, share, seconds in trace_sentences.device_lines(device):
        idle = "idle: " if label.startswith(" ") else ""
        yield (
            f"| {idle}{escaped(label.strip())} | {numbers.share(share)} "
            f"| {numbers.seconds(seconds)} |"
        )


def _critical_path(diagnosis: Diagnosis) -> Iterator[str]:
    if diagnosis.critical_path is not None:
        yield ""
        yield escaped(trace_sentences.path_heading(diagnosis.critical_path))
        yield ""
        yield "| on the path | share | time |"
        yield "|---|--:|--:|"
        for label, share, seconds in trace_sentences.path_lines(diagnosis.critical_path):
            yield f"| {escaped(label)} | {numbers.share(share)} | {numbers.seconds(seconds)} |"
    if diagnosis.what_if:
        yield ""
        yield f"| {' | '.join(trace_sentences.CHANGE_HEADINGS)} |"
        yield "|---|--:|--:|---|"
        for change in diagnosis.what_if:
            yield f"| {' | '.join(map(escaped, trace_sentences.change_cells(change)))} |"


def _thread(thread: ThreadTime) -> Iterator[str]:
    yield ""
    yield escaped(trace_sentences.thread_heading(thread))
    yield ""
    yield "| the thread | share | time |"
    yield "|---|--:|--:|"
    for label, share, seconds in trace_sentences.thread_lines(thread):
        yield f"| {escaped(label)} | {numbers.share(share)} | {numbers.seconds(seconds)} |"


def _kernels(diagnosis: Diagnosis) -> Iterator[str]:
    if not diagnosis.kernels:
        return
    yield ""
    yield trace_sentences.KERNELS_HEADING
    yield ""
    yield "| kernels | share | count | precision | tensor cores | mostly |"
    yield "|---|--:|--:|---|--:|---|"
    for family, share, count, precision, cores, example in trace_sentences.kernel_lines(
        diagnosis.kernels
    ):
        yield (
            f"| {escaped(family)} | {numbers.share(share)} | {count:,} | {escaped(precision)} "
            f"| {cores} | {code(printable(example, SHORT))} |"
        )


def finding_lines(number: int, finding: Finding, diagnosis: Diagnosis) -> Iterator[str]:
    """One finding with its evidence, fixes and gain; its number stands before it."""
    yield ""
    severity = escaped(printable(finding.severity, SHORT))
    summary = escaped(sentences.finding_sentence(finding, diagnosis.headline))
    yield f"**{number}. {severity} {code(printable(finding.rule, SHORT))}**: {summary}"
    yield ""
    if finding.where is not None:
        line = source_line(finding.where, diagnosis.run)
        shown = f": {code(line.strip())}" if line and line.strip() else ""
        yield f"- at {code(place(finding.where))}{shown}"
    for evidence in finding.evidence:
        yield f"- seen: {escaped(sentences.evidence_line(evidence))}"
    for fix in finding.fixes:
        yield f"- fix ({escaped(printable(fix.safety, SHORT))}): {escaped(fix.text)}"
        if fix.code:
            yield from _block(fix.code)
    yield f"- gain: {escaped(sentences.gain_line(finding))}"
    if finding.suppresses:
        yield f"- explains: {', '.join(code(rule) for rule in finding.suppresses)}"


def _block(source: str) -> Iterator[str]:
    lines = [
        " " * (len(line) - len(line.lstrip())) + printable(line.strip())
        for line in source.splitlines()
    ]
    longest = max((len(run) for run in re.findall(r"`+", source)), default=0)
    fence = "`" * max(3, longest + 1)
    yield ""
    yield f"  {fence}python"
    yield from (f"  {inert(line)}" for line in lines)
    yield f"  {fence}"
    yield ""


def _unseen(lines: list[str]) -> Iterator[str]:
    if not lines:
        return
    yield ""
    yield f"<details><summary>Could not be seen: {numbers.count(len(lines))}</summary>"
    yield ""
    for line in lines:
        yield f"- {escaped(line)}"
    yield ""
    yield "</details>"
