"""The table of operators on the page says of how many it is."""

import pytest

from trainprof.profiler.model.diagnosis import (
    Diagnosis,
    OperatorTime,
    OperatorTimes,
    OwnTime,
    RunSummary,
    StepSummary,
)
from trainprof.reports.html.traced import operators_section

ROW = OperatorTime("aten::mm", 3, OwnTime(0.5, 0.25), None, None, 0)


def caption(shown, names):
    """Of a table that holds so many rows, of so many operators."""
    operators = OperatorTimes("the window", 2.0, None, names, (ROW,) * shown)
    section = operators_section(
        Diagnosis(
            schema=1,
            source="trace",
            run=RunSummary(status="complete"),
            verdict="healthy",
            headline="",
            steps=StepSummary(count=3, steady=3),
            operators=operators,
        )
    )
    return section["blocks"][1]["caption"]


@pytest.mark.parametrize(
    ("shown", "names", "said"),
    [
        (1, 1, "The only operator: time on the host"),
        (2, 2, "All 2 operators, by their time on the host"),
        (1, 2, "1 of 2 operators, those that take most, by their time on the host"),
        (60, 1234, "60 of 1,234 operators, those that take most, by their time on the host"),
    ],
)
def test_the_caption_counts_operators(shown, names, said):
    assert caption(shown, names) == said
