"""The parts of the terminal report, as rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence

from rich.console import Group, RenderableType
from rich.padding import Padding
from rich.table import Table
from rich.text import Text

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    Finding,
    FixAdvice,
    KernelTime,
    PhaseTime,
)
from trainprof.profiler.model.phases import PHASE_INDEX
from trainprof.reports import numbers, sentences, trace_sentences
from trainprof.reports.next_commands import next_commands
from trainprof.reports.phases import PhaseRow, bar_cells, phase_rows
from trainprof.reports.source import place, source_line
from trainprof.reports.text import SHORT, printable

STATES_WIDTH = 76
"""From this width on, the thread states stand beside the phases, not below the legend."""
LABEL_WIDTH = 8
KERNEL_NUMBERS_WIDTH = 58
"""Of the columns beside the kernel's name, which may have hundreds of characters."""
STATES = ("on CPU", "waiting for a CPU", "blocked")

_VERDICT_STYLE = {"bottleneck": "bold red", "healthy": "bold green", "insufficient": "bold yellow"}
_SEVERITY_STYLE = {"critical": "bold red", "warn": "bold yellow", "info": "bold cyan"}
_FILL_STYLES = (
    "black on cyan",
    "black on green",
    "white on blue",
    "black on yellow",
    "white on magenta",
    "black on white",
    "white on red",
)


class Layout:
    """Turns a diagnosis into renderables for one width.

    Args:
        width: Columns.
        styled: Whether colours are shown; the bar then needs its letters only once a phase.
    """

    def __init__(self, width: int, styled: bool) -> None:
        self.width = width
        self.styled = styled

    def brief(self, diagnosis: Diagnosis) -> Iterator[RenderableType]:
        """The verdict and one line per finding, of every training of the command."""
        yield self._verdict(diagnosis)
        for finding in diagnosis.findings:
            yield self._finding_title(finding, diagnosis.headline)
        for other in diagnosis.other_sessions:
            yield from self.brief(other)

    def whole(self, diagnosis: Diagnosis) -> Iterator[RenderableType]:
        """Everything, the most important first."""
        yield from self._session(diagnosis)
        count = len(diagnosis.other_sessions) + 1
        for other in diagnosis.other_sessions:
            yield Text()
            number = other.run.session + 1
            yield Text(f"Training {number} of {count} under this command", style="bold")
            yield from self._session(other)
        yield from self._ending(diagnosis)

    def _session(self, diagnosis: Diagnosis) -> Iterator[RenderableType]:
        yield self._verdict(diagnosis)
        caution = sentences.caution(diagnosis)
        if caution:
            yield Text(caution)
        yield Text()
        yield _labelled(sentences.run_lines(diagnosis))
        rows = phase_rows(diagnosis.steps)
        if rows:
            yield Text()
            yield from self._phases(rows)
        for device in diagnosis.devices:
            yield Text()
            yield Text(trace_sentences.device_heading(device), style="bold")
            yield _time_table(trace_sentences.device_lines(device))
        if diagnosis.training_thread is not None:
            yield Text()
            yield Text(trace_sentences.thread_heading(diagnosis.training_thread), style="bold")
            yield _time_table(trace_sentences.thread_lines(diagnosis.training_thread))
        if diagnosis.kernels:
            yield Text()
            yield Text(trace_sentences.KERNELS_HEADING, style="bold")
            yield _kernel_table(diagnosis.kernels, self.width)
        yield from _critical_path(diagnosis)
        for number, finding in enumerate(diagnosis.findings, start=1):
            yield Text()
            yield from self.finding(number, finding, diagnosis)
        yield from self._unseen(diagnosis)

    def _unseen(self, diagnosis: Diagnosis) -> Iterator[RenderableType]:
        remarks = sentences.remarks(diagnosis)
        if remarks:
            yield Text()
            yield Text("Remarks", style="bold")
            yield _bullets(remarks)
        if diagnosis.verdict == "healthy" and not diagnosis.findings:
            short = sentences.unseen_in_short(diagnosis)
            if short:
                yield Text()
                yield Text(short)
            return
        lines = sentences.unseen(diagnosis)
        if lines:
            yield Text()
            yield Text("Could not be seen", style="bold")
            yield _bullets(lines)

    def _verdict(self, diagnosis: Diagnosis) -> Text:
        word, text = sentences.verdict_parts(diagnosis)
        style = _VERDICT_STYLE.get(diagnosis.verdict, "bold")
        return Text.assemble((word, style), (text, "bold"), overflow="fold")

    def _phases(self, rows: list[PhaseRow]) -> Iterator[RenderableType]:
        """The stacked bar over the width, then its legend."""
        bar = Text(no_wrap=True, overflow="crop")
        for row, cells in zip(rows, bar_cells(rows, self.width), strict=True):
            fill = row.letter + " " * (cells - 1) if self.styled else row.letter * cells
            bar.append(fill[:cells], style=fill_style(row))
        yield bar
        timed = [row for row in rows if _states(row.time)]
        yield _legend(rows, with_states=bool(timed) and self.width >= STATES_WIDTH)
        if self.width < STATES_WIDTH:
            for row in timed:
                yield Text(f"{row.label}: {_states(row.time)}", style="dim")
        if any(row.time.inferred for row in rows):
            yield Text("~ in part inferred, not bracketed by two marks", style="dim")

    def _finding_title(self, finding: Finding, headline: str, number: int | None = None) -> Text:
        severity = printable(finding.severity, SHORT)
        place_text = f" [{place(finding.where)}]" if number is None and finding.where else ""
        return Text.assemble(
            ("" if number is None else f"{number}. ", "bold"),
            (severity, _SEVERITY_STYLE.get(finding.severity, "bold")),
            (f" {printable(finding.rule, SHORT)}: ", "bold"),
            sentences.finding_sentence(finding, headline),
            place_text,
            overflow="fold",
        )

    def finding(
        self, number: int, finding: Finding, diagnosis: Diagnosis
    ) -> Iterator[RenderableType]:
        """One finding: where, the evidence, the fixes, the predicted gain."""
        yield self._finding_title(finding, diagnosis.headline, number)
        if finding.where is not None:
            function = finding.where.function
            inside = f" in {printable(function, SHORT)}" if function else ""
            yield _copyable(f"  --> {place(finding.where)}{inside}", style="cyan")
            line = source_line(finding.where, diagnosis.run)
            if line and line.strip():
                source = f"{finding.where.line} | {printable(line.strip())}"
                yield Padding(Text(source, overflow="fold"), (0, 0, 0, 4))
        yield Padding(_labelled(_finding_rows(finding)), (0, 0, 0, 2))

    def _ending(self, diagnosis: Diagnosis) -> Iterator[RenderableType]:
        if diagnosis.source != "trace":  # whoever recorded it knows what that cost
            yield Text()
            yield _labelled([("cost", f"trainprof itself: {sentences.overhead_line(diagnosis)}")])
        for command, purpose in next_commands(diagnosis):
            yield Text()
            yield Text(f"Next, {purpose}:")
            yield _copyable(f"  {printable(command)}", style="bold")


def _copyable(line: str, style: str) -> Group:
    """A line that only the terminal may wrap, so that it can be copied whole.

    A group, because `Console.print` joins bare texts into one that wraps again.
    """
    return Group(Text(line, style=style, no_wrap=True, overflow="ignore"))


def _legend(rows: list[PhaseRow], with_states: bool) -> Table:
    """One line per phase; `with_states` adds what the training thread did in it."""
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("")
    table.add_column("", overflow="fold")
    for heading in ("share", "a step", *(STATES if with_states else ())):
        table.add_column(heading, justify="right")
    for row in rows:
        time = row.time
        states = (time.cpu_s_per_step, time.run_queue_s_per_step, time.blocked_s_per_step)
        shown = ["" if value is None else numbers.seconds(value) for value in states]
        table.add_row(
            Text(row.letter, style=fill_style(row)),
            Text(f"~{row.label}" if time.inferred else row.label),
            numbers.share(time.share),
            numbers.seconds(time.s_per_step),
            *(shown if with_states else ()),
        )
    return table


def _critical_path(diagnosis: Diagnosis) -> Iterator[RenderableType]:
    if diagnosis.critical_path is not None:
        yield Text()
        yield Text(trace_sentences.path_heading(diagnosis.critical_path), style="bold")
        yield _time_table(trace_sentences.path_lines(diagnosis.critical_path))
    if diagnosis.what_if:
        yield Text()
        table = Table(box=None, padding=(0, 2, 0, 0), pad_edge=False, show_edge=False)
        for heading in trace_sentences.CHANGE_HEADINGS:
            table.add_column(heading, overflow="fold")
        for change in diagnosis.what_if:
            table.add_row(*map(Text, trace_sentences.change_cells(change)))
        yield table


def _time_table(lines: Iterable[tuple[str, float, float]]) -> Table:
    table = Table.grid(padding=(0, 2, 0, 0), pad_edge=False)
    table.add_column(overflow="fold")
    for _ in range(2):
        table.add_column(justify="right")
    for label, share, seconds in lines:
        table.add_row(Text(label), numbers.share(share), numbers.seconds(seconds))
    return table


def _kernel_table(kernels: Sequence[KernelTime], width: int) -> Table:
    table = Table(box=None, padding=(0, 2, 0, 0), header_style="dim", pad_edge=False)
    table.add_column("", no_wrap=True)
    for heading in ("share", "count"):
        table.add_column(heading, justify="right", no_wrap=True)
    table.add_column("precision", no_wrap=True)
    table.add_column("tensor\ncores", justify="right", no_wrap=True)
    rest = max(width - KERNEL_NUMBERS_WIDTH, 12)
    table.add_column("mostly", no_wrap=True, overflow="ellipsis", max_width=rest)
    for family, share, count, precision, cores, example in trace_sentences.kernel_lines(kernels):
        table.add_row(
            Text(printable(family, SHORT)),
            numbers.share(share),
            f"{count:,}",
            Text(printable(precision, SHORT)),
            cores,
            Text(printable(example)),
        )
    return table


def fill_style(row: PhaseRow) -> str:
    """The colour of a phase, the same in every report."""
    index = PHASE_INDEX.get(row.phase)
    return "reverse" if index is None else _FILL_STYLES[index % len(_FILL_STYLES)]


def _finding_rows(finding: Finding) -> list[tuple[str, str]]:
    rows = [("seen", sentences.evidence_line(evidence)) for evidence in finding.evidence]
    for fix in finding.fixes:
        rows += _fix_rows(fix)
    rows.append(("gain", sentences.gain_line(finding)))
    if finding.suppresses:
        names = ", ".join(printable(rule, SHORT) for rule in finding.suppresses)
        rows.append(("explains", names))
    return _without_repeated_labels(rows)


def _fix_rows(fix: FixAdvice) -> list[tuple[str, str]]:
    rows = [("fix", printable(fix.text))]
    if fix.code:
        rows += [("fix", printable(line)) for line in fix.code.splitlines()[:12] if line.strip()]
    meaning = sentences.SAFETY.get(fix.safety)
    safety = printable(fix.safety, SHORT)
    rows.append(("safety", f"{safety}: {meaning}" if meaning else safety))
    return rows


def _without_repeated_labels(rows: list[tuple[str, str]]) -> list[tuple[str, str]]:
    previous = [("", ""), *rows]
    return [
        ("" if label == before else label, text)
        for (label, text), (before, _) in zip(rows, previous, strict=False)
    ]


def _labelled(rows: list[tuple[str, str]]) -> Table:
    """Two columns: a dim label and its text, which wraps under itself."""
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(width=LABEL_WIDTH, style="dim", no_wrap=True)
    table.add_column(ratio=1, overflow="fold")
    for label, text in rows:
        table.add_row(label, Text(text))
    return table


def _bullets(lines: list[str]) -> Table:
    table = Table.grid(padding=(0, 1, 0, 0), expand=True)
    table.add_column(width=1)
    table.add_column(ratio=1, overflow="fold")
    for line in lines:
        table.add_row("-", Text(line))
    return table


def _states(time: PhaseTime) -> str:
    """What the training thread did in the phase, in words; empty where it was not measured."""
    values = (time.cpu_s_per_step, time.run_queue_s_per_step, time.blocked_s_per_step)
    pairs = zip(values, STATES, strict=True)
    return ", ".join(f"{numbers.seconds(value)} {name}" for value, name in pairs if value)
