"""What a window of a few steps may claim, against the worst case played through step by step."""

from itertools import product

import pytest
from builders import build_steps, build_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.diagnosis import Evidence, Finding
from trainprof.rules.short_windows import graded, longest_share


def finding(share, severity="critical"):
    return Finding(
        rule="loop-sync-item",
        severity=severity,
        title="A fault",
        summary="It costs time.",
        evidence=(Evidence("timeline.idle_share", share, "share"),),
        share=share,
    )


@pytest.mark.parametrize(
    ("steps", "share", "severity"),
    [
        (1, 0.99, "info"),
        (2, 0.54, "info"),
        (2, 0.56, "warn"),
        (3, 0.39, "info"),
        (3, 0.41, "warn"),
        (3, 0.48, "critical"),
        (10, 0.18, "info"),
        (10, 0.20, "warn"),
        (20, 0.21, "critical"),
    ],
)
def test_grades_of_equal_steps(steps, share, severity):
    assert graded(finding(share), steps, 1.0 / steps).severity == severity


def test_a_note_stays_a_note_and_a_warning_rises_to_nothing():
    assert graded(finding(0.9, "info"), 3, 1 / 3).severity == "info"
    assert graded(finding(0.9, "warn"), 3, 1 / 3).severity == "warn"


def test_a_fact_without_a_share_keeps_its_grade():
    assert graded(finding(None, "warn"), 1, 1.0).severity == "warn"


@given(st.lists(st.tuples(st.integers(1, 1000), st.floats(0, 1)), min_size=2, max_size=6))
def test_one_step_at_fault_never_warns(steps):
    """Whatever the longest step lost, a warning says that the others lost a tenth as well."""
    lengths = [length for length, _ in steps]
    share = sum(length * part for length, part in steps) / sum(lengths)
    longest = max(range(len(steps)), key=lambda at: lengths[at])
    others = [one for at, one in enumerate(steps) if at != longest]
    lost = sum(length * part for length, part in others) / sum(length for length, _ in others)
    found = graded(finding(share), len(steps), max(lengths) / sum(lengths))
    if found.severity != "info":
        assert lost > 0.10 - 1e-9
    if found.severity == "critical":
        assert lost > 0.20 - 1e-9


def test_the_longest_step_of_a_window_is_that_of_the_run():
    trainer = build_trainer(build_steps(20, lambda index: {"forward": 30.0 if index == 6 else 10}))
    assert longest_share(trainer, 5, 3) == pytest.approx(0.6)
    assert longest_share(trainer, 8, 2) == pytest.approx(0.5)
    for first, steps in product((18, 400), (3, 4)):
        assert longest_share(trainer, first, steps) == pytest.approx(1 / steps)
