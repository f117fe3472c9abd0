"""Every number on the screen is one of the diagnosis or the records, and the check can fail."""

import html
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from run_writer import RunWriter
from test_screen import DIAGNOSIS, drive

from trainprof.profiler.model.diagnosis import Evidence, PhaseTime, RankSummary

sys.path.insert(0, str(Path(__file__).parents[3] / "docs"))
from shown_numbers import made
from shown_screen import lines_of, screen_differs, sources_of_screen

RANKS = tuple(RankSummary(rank, 100 + rank, 100, 0.05 + rank / 1e3, {}) for rank in range(8))


def seen(tmp_path, **how):
    """The picture of the screen, and what may stand there."""
    pictures = []

    async def look(app, pilot):
        pictures.append((app.export_screenshot(), sources_of_screen(app.board)))

    drive(tmp_path, look, size=(100, 30), **how)
    return pictures[0]


@pytest.mark.parametrize(("ranks", "status"), [(1, "running"), (8, "running"), (8, "complete")])
def test_the_numbers_of_the_screen(tmp_path, ranks, status):
    diagnosis = replace(DIAGNOSIS, ranks=RANKS[:ranks])
    svg, sources = seen(tmp_path, ranks=ranks, status=status, diagnosis=diagnosis)
    assert any("steady" in line for line in lines_of(svg))
    assert screen_differs(svg, sources) == []


def test_phases_that_stand_together_are_held_against_their_sum(tmp_path):
    small = {"gc": PhaseTime(0.004, 0.0002), "logging": PhaseTime(0.003, 0.00015)}
    large = {name: DIAGNOSIS.steps.phases[name] for name in ("data_wait", "backward")}
    steps = replace(DIAGNOSIS.steps, phases=large | small)
    svg, sources = seen(tmp_path, diagnosis=replace(DIAGNOSIS, steps=steps))
    assert "other&#160;0.7&#160;%" in svg
    assert screen_differs(svg, sources) == []
    assert screen_differs(svg.replace("other&#160;0.7", "other&#160;0.6"), sources) != []


@pytest.mark.parametrize(
    ("right", "wrong"),
    [
        ("steady 50 ms", "steady 51 ms"),
        ("D data wait 40 %", "D data wait 41 %"),
        ("B backward 30 %", "B backward 40 %"),  # the share of another phase
        ("] 40 % of the step", "] 30 % of the step"),
        ("slowest: 7, 57 ms", "slowest: 6, 56 ms"),
        ("100 steps", "8 steps"),  # as many as there are ranks
    ],
)
def test_a_wrong_number_is_named(tmp_path, right, wrong):
    diagnosis = replace(DIAGNOSIS, ranks=RANKS)
    svg, sources = seen(tmp_path, ranks=8, diagnosis=diagnosis)
    right, wrong = (one.replace(" ", "&#160;") for one in (right, wrong))
    assert svg.count(right) == 1
    (found,) = screen_differs(svg.replace(right, wrong), sources)
    assert html.unescape(wrong).replace("\xa0", " ") in found


def test_a_text_that_the_screen_has_wrapped_is_held_against_its_source(tmp_path):
    told = (
        "98 % of the wait for batches is spent in Photographs.__getitem__, train.py:27 (115 looks)"
    )
    evidence = (*DIAGNOSIS.findings[0].evidence, Evidence("stacks.where", told, "text"))
    finding = replace(DIAGNOSIS.findings[0], evidence=evidence)
    diagnosis = replace(DIAGNOSIS, findings=(finding,))
    svg, sources = seen(tmp_path, diagnosis=diagnosis)
    lines = [line.strip() for line in lines_of(svg)]
    (first,) = [number for number, line in enumerate(lines) if "98 %" in line]
    assert "115 looks)" in lines[first + 1]
    assert screen_differs(svg, sources) == []
    (found,) = screen_differs(svg.replace("(115", "(116"), sources)
    assert "116" in found


def test_a_trial_that_has_made_no_step_has_numbers_too(tmp_path):
    run = RunWriter(tmp_path / "run").flush()
    svg, sources = seen(tmp_path, run=run)
    assert any("no step yet" in line for line in lines_of(svg))
    assert screen_differs(svg, sources) == []


def test_a_picture_without_text_is_named(tmp_path):
    svg, sources = seen(tmp_path)
    assert screen_differs(svg.replace("<text", "<tspan"), sources) != []


def test_of_a_number_that_the_screen_has_cut_all_digits_count():
    sources = {"": made(["9 workers", "12 rows of 24 columns"], ["9"])}

    def picture(line):
        shown = line.replace(" ", "&#160;")
        return f'<text class="a" x="0" y="1" clip-path="url(#b)">{shown}</text>'

    assert screen_differs(picture(" 9 workers 12 rows of 2…"), sources) == []
    assert screen_differs(picture(" 9 workers 912 rows of 2…"), sources) != []
