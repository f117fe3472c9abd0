"""The figures of the zoo: rates over results. Nothing here runs or reads anything."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from zoo.intervals import Rate, rate_of
from zoo.results import Result

SINGLE_PLANTS = ("stories", "cases")
"""Groups whose faults make the headline; blind, compound and severity are told apart from it."""


@dataclass(frozen=True)
class Figures:
    """One column of the summary.

    Attributes:
        recall_1, recall_2: Faults whose plant is the first, or among the first two findings. A
            script that failed counts as missed.
        precision: Findings at warn and above that name a plant, of all such findings: those on
            faults, on twins and on healthy scripts.
        clean: Healthy scripts and twins without a finding at warn and above.
        alarms_per_script: Findings at warn and above per healthy script or twin.
        undecided: Healthy scripts of which trainprof said that it cannot tell.
        located: Found plants whose finding points to the line with the plant.
        share_error: Median distance of the predicted from the planted share, where both are known.
        share_pairs: How many these are.
    """

    recall_1: Rate
    recall_2: Rate
    precision: Rate
    clean: Rate
    alarms_per_script: float | None
    undecided: Rate
    located: Rate
    share_error: float | None
    share_pairs: int


def figures_of(results: Sequence[Result]) -> Figures:
    """All of them over some results."""
    faults = [one for one in results if one.script.role == "fault" and one.case.is_judged]
    judged = [result.fault for result in faults if result.fault is not None]
    healthy = [result.healthy for result in results if result.healthy is not None]
    alarms = sum(len(verdict.alarms) for verdict in healthy)
    blamed = sum(verdict.blamed for verdict in judged) + alarms
    errors = [error for result in faults if (error := share_error(result)) is not None]
    return Figures(
        recall_1=_recall(faults, 1),
        recall_2=_recall(faults, 2),
        precision=Rate(sum(verdict.blamed_rightly for verdict in judged), blamed),
        clean=rate_of([not verdict.alarms for verdict in healthy]),
        alarms_per_script=alarms / len(healthy) if healthy else None,
        undecided=rate_of([verdict.verdict == "insufficient" for verdict in healthy]),
        located=rate_of([verdict.where for verdict in judged if verdict.where is not None]),
        share_error=statistics.median(errors) if errors else None,
        share_pairs=len(errors),
    )


def _recall(faults: Sequence[Result], places: int) -> Rate:
    return rate_of([one.fault is not None and one.fault.found_within(places) for one in faults])


def share_error(result: Result) -> float | None:
    """Distance of the predicted from the planted share of the step; None if one is not known."""
    predicted = result.fault.predicted_share if result.fault is not None else None
    if predicted is None or result.planted_share is None:
        return None
    return abs(predicted - result.planted_share)


@dataclass(frozen=True)
class Level:
    """Faults of one severity: how many were found at all, and how many at warn and above."""

    percent: int
    found: Rate
    warned: Rate


def detection_curve(results: Sequence[Result]) -> list[Level]:
    """Detection by planted severity, over the rules that have a knob."""
    by_level: dict[int, list[Result]] = {}
    for result in results:
        if result.script.level is not None:
            by_level.setdefault(result.script.level, []).append(result)
    return [
        Level(level, _share(some, _is_found), _share(some, _is_warned))
        for level, some in sorted(by_level.items())
    ]


def _share(results: Sequence[Result], holds: Callable[[Result], bool]) -> Rate:
    return rate_of([holds(result) for result in results])


def _is_found(result: Result) -> bool:
    return result.fault is not None and result.fault.found_first


def _is_warned(result: Result) -> bool:
    return _is_found(result) and result.fault is not None and result.fault.severity != "info"
