"""Every number on the screen is one of the diagnosis or the records, and the check can fail."""

import re
import sys
from dataclasses import replace
from pathlib import Path

import pytest
from test_screen import DIAGNOSIS, drive

from trainprof.profiler.model.diagnosis import PhaseTime, RankSummary

sys.path.insert(0, str(Path(__file__).parents[3] / "docs"))
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
    assert any("steady step" in line for line in lines_of(svg))
    assert screen_differs(svg, sources) == []


def test_phases_that_stand_together_are_held_against_their_sum(tmp_path):
    small = {"gc": PhaseTime(0.004, 0.0002), "logging": PhaseTime(0.003, 0.00015)}
    large = {name: DIAGNOSIS.steps.phases[name] for name in ("data_wait", "backward")}
    steps = replace(DIAGNOSIS.steps, phases=large | small)
    svg, sources = seen(tmp_path, diagnosis=replace(DIAGNOSIS, steps=steps))
    assert "other&#160;0.7&#160;%" in svg
    assert screen_differs(svg, sources) == []
    assert screen_differs(svg.replace("other&#160;0.7", "other&#160;0.6"), sources) != []


def test_a_wrong_number_is_named(tmp_path):
    svg, sources = seen(tmp_path)
    for right, wrong in (("50&#160;ms&#160;a&#160;steady", "51"), ("40&#160;%&#160;&#160;B", "41")):
        changed, count = re.subn(re.escape(right), wrong + right[2:], svg)
        assert count == 1
        (found,) = screen_differs(changed, sources)
        assert wrong in found
