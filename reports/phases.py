"""The step decomposition as rows that a bar, a legend or a table can show."""

from __future__ import annotations

from dataclasses import dataclass

from trainprof.profiler.model.diagnosis import PhaseTime, StepSummary
from trainprof.profiler.model.phases import PHASES
from trainprof.reports.text import SHORT, printable

MIN_SHARE = 0.005
"""Phases under this share of the step are folded into one row; a choice of legibility."""

_NAMES = {
    "data_wait": ("D", "data wait"),
    "h2d": ("H", "copy to device"),
    "forward": ("F", "forward"),
    "loss": ("L", "loss"),
    "backward": ("B", "backward"),
    "optimizer": ("O", "optimizer"),
    "comm_exposed": ("N", "communication"),
    "sync": ("S", "synchronise"),
    "validation": ("V", "validation"),
    "checkpoint": ("C", "checkpoint"),
    "logging": ("P", "logging"),
    "gc": ("G", "garbage collection"),
    "compile": ("T", "torch.compile"),
    "residual": ("R", "rest of the loop"),
}
FOLDED = "folded"


@dataclass(frozen=True, slots=True)
class PhaseRow:
    """One row of the legend, in the order of the step.

    Attributes:
        phase: Name of the phase, or `FOLDED` for all that are under `MIN_SHARE`.
        letter: One character that stands for it where colours cannot.
        label: What a reader calls it.
    """

    phase: str
    letter: str
    label: str
    time: PhaseTime


def phase_label(phase: str) -> str:
    """What a reader calls a phase; an unknown name as it stands."""
    known = _NAMES.get(phase)
    return known[1] if known else printable(phase, SHORT)


def phase_rows(steps: StepSummary) -> list[PhaseRow]:
    """The phases of the mean steady step, small ones folded into the last row."""
    order = {name: position for position, name in enumerate(PHASES)}
    names = sorted(steps.phases, key=lambda name: order.get(name, len(order)))
    shown = [name for name in names if steps.phases[name].share >= MIN_SHARE]
    small = [steps.phases[name] for name in names if 0 < steps.phases[name].share < MIN_SHARE]
    rows = [
        PhaseRow(name, _NAMES.get(name, ("?", ""))[0], phase_label(name), steps.phases[name])
        for name in shown
    ]
    if small:
        folded = PhaseTime(
            share=sum(time.share for time in small),
            s_per_step=sum(time.s_per_step for time in small),
        )
        rows.append(PhaseRow(FOLDED, ".", "other", folded))
    return rows


def bar_cells(rows: list[PhaseRow], width: int) -> list[int]:
    """How many of `width` cells each row takes, by largest remainder; they sum to `width`."""
    total = sum(row.time.share for row in rows)
    if total <= 0 or width <= 0:
        return [0] * len(rows)
    exact = [row.time.share / total * width for row in rows]
    cells = [int(value) for value in exact]
    by_remainder = sorted(range(len(rows)), key=lambda index: cells[index] - exact[index])
    for index in by_remainder[: width - sum(cells)]:
        cells[index] += 1
    return cells
