"""`report.html`: everything a diagnosis holds, in one file."""

from __future__ import annotations

from collections.abc import Iterator

from trainprof.profiler.model.diagnosis import Diagnosis
from trainprof.reports import numbers, sentences
from trainprof.reports.html import blocks
from trainprof.reports.html.blocks import Block
from trainprof.reports.html.environment import environment_section, measured_section
from trainprof.reports.html.experiments import experiments_section
from trainprof.reports.html.extras import Extras
from trainprof.reports.html.findings import findings_section
from trainprof.reports.html.flame import flame_section
from trainprof.reports.html.over_time import resources_section, timeline_section
from trainprof.reports.html.page import page
from trainprof.reports.html.ranks import ranks_section
from trainprof.reports.html.steps import composition_section
from trainprof.reports.html.traced import (
    devices_section,
    kernels_section,
    operators_section,
    path_section,
)
from trainprof.reports.html.verdict import verdict_section
from trainprof.reports.next_commands import next_commands
from trainprof.reports.text import SHORT, printable

MOST_TRAININGS = 12
"""Beside the longest one, with sections of their own: a command may have restarted hundreds."""


class HtmlReport:
    """Renders a diagnosis as a page of HTML that needs nothing but itself.

    Args:
        extras: What a page shows beside the diagnosis: rule pages, the tune, the machine.
    """

    def __init__(self, extras: Extras | None = None) -> None:
        self._extras = extras or Extras()

    def render(self, diagnosis: Diagnosis) -> str:
        """The whole page, ending in a line feed."""
        return page(self.content(diagnosis))

    def content(self, diagnosis: Diagnosis) -> dict[str, object]:
        """What the page shows, as plain data (`blocks`)."""
        return {
            "name": printable(diagnosis.run.name or "training", SHORT),
            "sections": [one for one in self._sections(diagnosis) if one["blocks"]],
        }

    def _sections(self, diagnosis: Diagnosis) -> Iterator[Block]:
        extras = self._extras
        yield verdict_section(diagnosis)
        yield composition_section(diagnosis)
        yield findings_section(diagnosis, extras)
        yield timeline_section(diagnosis)
        yield resources_section(diagnosis)
        yield experiments_section(extras.tune)
        yield flame_section(diagnosis)
        yield devices_section(diagnosis)
        yield kernels_section(diagnosis)
        yield operators_section(diagnosis)
        yield ranks_section(diagnosis)
        yield path_section(diagnosis)
        trainings = len(diagnosis.other_sessions) + 1
        for other in diagnosis.other_sessions[:MOST_TRAININGS]:
            yield _other_training(other, extras, trainings)
        if trainings - 1 > MOST_TRAININGS:
            left = numbers.count(trainings - 1 - MOST_TRAININGS)
            told = blocks.text(f"{left} more are in trainprof diagnose --format json.")
            yield blocks.section("more-trainings", "More trainings", [told])
        yield environment_section(diagnosis, extras)
        yield measured_section(diagnosis)
        yield _unseen(diagnosis)
        yield _overhead(diagnosis)


def _other_training(diagnosis: Diagnosis, extras: Extras, trainings: int) -> Block:
    """A further training of the same command, in short."""
    number = diagnosis.run.session + 1
    parts = (
        verdict_section(diagnosis),
        composition_section(diagnosis),
        findings_section(diagnosis, extras),
    )
    inside = [block for part in parts for block in part["blocks"]]
    return blocks.section(f"training-{number}", f"Training {number} of {trainings}", inside)


def _unseen(diagnosis: Diagnosis) -> Block:
    lines = sentences.unseen(diagnosis)
    inside = [blocks.listing(lines)] if lines else []
    skipped = [
        (printable(one.rule, SHORT), printable(one.reason)) for one in diagnosis.skipped_rules
    ]
    if skipped:
        every = blocks.table("Rules that could not speak", ("rule", "why"), skipped)
        inside.append(blocks.details(f"Skipped rules: {numbers.count(len(skipped))}", [every]))
    missing = [
        (printable(path, SHORT), printable(reason)) for path, reason in diagnosis.missing.items()
    ]
    if missing:
        every = blocks.table("Values that are missing", ("value", "why"), missing)
        inside.append(blocks.details(f"Missing values: {numbers.count(len(missing))}", [every]))
    return blocks.section("unseen", "What could not be seen", inside)


def _overhead(diagnosis: Diagnosis) -> Block:
    inside = []
    if diagnosis.source != "trace":  # whoever recorded it knows what that cost
        inside.append(blocks.text(f"trainprof itself: {sentences.overhead_line(diagnosis)}."))
    commands = [(purpose, printable(command)) for command, purpose in next_commands(diagnosis)]
    if commands:
        inside.append(blocks.facts(commands, "commands"))
    return blocks.section("overhead", "What measuring cost, and what next", inside)
