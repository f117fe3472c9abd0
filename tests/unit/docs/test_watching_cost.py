"""The benchmark of what watching costs: what it reads of a run, and the page that it writes."""

import importlib
import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))


def test_the_means_are_those_of_the_steps_that_were_written(tmp_path):
    arms, writing = importlib.import_module("watching_arms"), importlib.import_module("read_run")
    writing.write_run(tmp_path, 400, 1)
    step_s, thread_s = arms.steady_means(tmp_path)
    assert step_s == pytest.approx(0.012)
    assert thread_s == pytest.approx(0.012 - 4321e-9, abs=1e-7)


def test_a_part_that_is_measured_again_leaves_the_others_as_they_are():
    watching = importlib.import_module("watching")
    first = watching.page("", {"lag": ["late"], "steps": ["slow", "", "| 1 |"]})
    again = watching.page(first, {"steps": ["fast"]})
    assert "slow" not in again
    assert again.index("fast") < again.index("late")
    assert watching.page(again, {}) == again
