"""What every report of a comparison says in words."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence

from trainprof.profiler.model.comparison import (
    EITHER_SIDE,
    ComparedRun,
    Comparison,
    FactChange,
    Gate,
    PhaseChange,
    Ratio,
)
from trainprof.reports import numbers
from trainprof.reports.phases import phase_label
from trainprof.reports.text import SHORT, printable

_VERDICTS = {
    "faster": "Faster",
    "slower": "Slower",
    "no_difference": "No difference shown",
    "undecided": "Cannot be decided",
}


def verdict_word(comparison: Comparison) -> str:
    """The verdict as a heading."""
    return _VERDICTS.get(comparison.verdict, "Cannot be decided")


def headline(comparison: Comparison) -> str:
    """The verdict in one sentence."""
    ratio = comparison.ratio
    if ratio is None:
        return f"because {printable(comparison.reason or 'the runs tell too little')}."
    span = f"{numbers.share(comparison.level)} interval: {interval(ratio)}"
    return f"a {comparison.per} of the candidate takes {change(ratio.point)} time ({span})."


def change(ratio: float) -> str:
    """A ratio of times: "12 % more", "3.1 % less", "the same"."""
    if not math.isfinite(ratio):
        return numbers.NOT_MEASURED
    if abs(ratio - 1.0) < 0.0005:
        return "the same"
    return f"{numbers.share(abs(ratio - 1.0))} {'more' if ratio > 1.0 else 'less'}"


def interval(ratio: Ratio) -> str:
    """From the best to the worst that the runs allow: "3 % less to 14 % more"."""
    return f"{change(ratio.low)} to {change(ratio.high)}"


def basis(comparison: Comparison) -> str | None:
    """What the interval rests on, and what would make it narrower."""
    ratio = comparison.ratio
    if ratio is None:
        return None
    old, new = (counted(group) for group in (comparison.base, comparison.candidate))
    runs = f"{old} {'run' if old == 1 else 'runs'} against {new}"
    if ratio.pairs is not None:
        return (
            f"{ratio.pairs} pairs of runs made in turns; equal runs of a pair differ by "
            f"{numbers.share(ratio.run_deviation)} here."
        )
    if not ratio.assumed:
        return f"{runs}; equal runs differ by {numbers.share(ratio.run_deviation)} here."
    more = (
        "longer runs would tell more"
        if ratio.steps_matter
        else "three or more runs of each would measure it"
    )
    return (
        f"{runs}: too few to see how much equal runs differ, so "
        f"{numbers.share(ratio.run_deviation)} or more is assumed; {more}."
    )


def counted(group: Sequence[ComparedRun]) -> int:
    """Runs that count."""
    return sum(run.problem is None for run in group)


def gate_line(gate: Gate) -> str:
    """What `--fail-if-slower` found, in one sentence."""
    limit = numbers.share(gate.limit)
    if gate.outcome == "failed":
        return f"failed: the candidate is slower by more than {limit}."
    if gate.outcome == "passed":
        return f"passed: the candidate is not slower by more than {limit}."
    reason = printable(gate.reason or "the runs tell too little")
    return f"cannot be decided at {limit}, and so does not fail: {reason}. {_remedy(gate)}"


def _remedy(gate: Gate) -> str:
    if gate.runs_needed is not None:
        return f"About {gate.runs_needed} runs of each, made in turns, can tell such a difference."
    if gate.reason != EITHER_SIDE:
        return "Make the runs alike, and compare again."
    return "Runs differ too much here; a quieter machine or a higher limit would decide."


def run_line(run: ComparedRun) -> str:
    """One run: its steps and their time."""
    name = printable(run.name, SHORT)
    if run.mean_s is None:
        return f"{name} · {run.status} · {numbers.count(run.steps)} steps"
    low, high = numbers.seconds(run.mean_s_low), numbers.seconds(run.mean_s_high)
    return (
        f"{name} · {printable(run.status, SHORT)} · {numbers.count(run.steps)} steps "
        f"({numbers.count(run.steady)} steady) · {numbers.seconds(run.mean_s)} a step "
        f"({low} to {high})"
    )


PHASE_HEADINGS = ("phase", "base", "candidate", "difference", "95 % interval")


def phase_cells(phase: PhaseChange) -> tuple[str, str, str, str, str]:
    """One row of the table of phases; "~" where no difference is shown."""
    shown = phase.low_s > 0.0 or phase.high_s < 0.0
    return (
        phase_label(phase.phase),
        numbers.seconds(phase.base_s),
        numbers.seconds(phase.candidate_s),
        f"{'' if shown else '~'}{signed(phase.difference_s)}",
        f"{signed(phase.low_s)} to {signed(phase.high_s)}",
    )


def signed(seconds: float) -> str:
    """A difference of times with its sign."""
    return f"{'+' if seconds > 0 else ''}{numbers.seconds(seconds)}"


def fact_lines(changes: Sequence[FactChange]) -> Iterator[tuple[str, str, str]]:
    """(what, its value in the base, its value in the candidate) of each change."""
    for one in changes:
        name = printable(f"{one.subject}: {one.name}", SHORT)
        yield name, _values(one.base), _values(one.candidate)


def _values(values: Sequence[str]) -> str:
    return " | ".join(printable(value, 200) for value in values) or "absent"


def finding_lines(comparison: Comparison) -> Iterator[str]:
    """Findings that only one group has."""
    if comparison.findings_new:
        yield f"new: {', '.join(printable(one, SHORT) for one in comparison.findings_new)}"
    if comparison.findings_gone:
        yield f"gone: {', '.join(printable(one, SHORT) for one in comparison.findings_gone)}"
