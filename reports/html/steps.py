"""What the mean steady step is made of."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import DeviceTime, Diagnosis
from trainprof.reports import numbers, trace_sentences
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.html.colours import OTHER, PHASE_COLOURS, phase_colour
from trainprof.reports.phases import PhaseRow, phase_rows
from trainprof.reports.text import SHORT, printable

HEADINGS = ("phase", "share", "a step", "on CPU", "waiting for a CPU", "blocked")


def composition_section(diagnosis: Diagnosis) -> Block:
    """The phases as a bar and as a table, with what the training thread did in each."""
    return blocks.section("composition", "Where a step's time goes", _blocks(diagnosis))


def _blocks(diagnosis: Diagnosis) -> Iterator[Block]:
    rows = phase_rows(diagnosis.steps)
    for device in () if rows else diagnosis.devices:
        yield _device_bar(device)
    if not rows:
        return
    yield {"kind": "bar", "label": "The mean step", "parts": [_part(row) for row in rows]}
    timed = any(row.time.cpu_s_per_step is not None for row in rows)
    columns = len(HEADINGS) if timed else 3
    caption = f"The mean of {numbers.count(diagnosis.steps.steady)} steady steps by phase"
    cells = [_cells(row)[:columns] for row in rows]
    yield blocks.table(caption, HEADINGS[:columns], cells, " #####"[:columns])
    if any(row.time.inferred for row in rows):
        yield blocks.text("~ in part inferred, not bracketed by two marks.", "note")


def _device_bar(device: DeviceTime) -> Block:
    """What a device did in the steps of a trace; the table below has its idle time by causes."""
    colours = (*PHASE_COLOURS.values(),)
    lines = [one for one in trace_sentences.device_lines(device) if not one[0].startswith(" ")]
    parts = [
        {
            "letter": printable(label[:1].upper()),
            "label": printable(label, SHORT),
            "share": share,
            "text": numbers.share(share),
            "time": numbers.seconds(seconds),
            "colour": OTHER if label == "idle" else colours[(2 + 2 * place) % len(colours)],
        }
        for place, (label, share, seconds) in enumerate(lines)
    ]
    return {
        "kind": "bar",
        "label": trace_sentences.device_heading(device),
        "captioned": True,
        "parts": parts,
    }


def _part(row: PhaseRow) -> dict[str, object]:
    return {
        "letter": row.letter,
        "label": row.label,
        "share": row.time.share,
        "text": numbers.share(row.time.share),
        "time": numbers.seconds(row.time.s_per_step),
        "colour": phase_colour(row.phase),
    }


def _cells(row: PhaseRow) -> list[blocks.Cell]:
    time = row.time
    states = (time.cpu_s_per_step, time.run_queue_s_per_step, time.blocked_s_per_step)
    shown = ["" if value is None else numbers.seconds(value) for value in states]
    name = {
        "text": f"{'~' if time.inferred else ''}{row.label}",
        "letter": row.letter,
        "colour": phase_colour(row.phase),
    }
    return [name, numbers.share(time.share), numbers.seconds(time.s_per_step), *shown]
