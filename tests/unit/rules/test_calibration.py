"""Predictions held against what tunes measured: counted, shown, and rules that are mostly wrong."""

import json
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.diagnosis import Finding, Gain, PastPredictions
from trainprof.reports.sentences import gain_line
from trainprof.rules.calibration import (
    MOST_CASES,
    Calibration,
    Case,
    add_cases,
    calibration_path,
    read_calibration,
    with_past,
)

MACHINE = "a CPU, 2 cores"
PREDICTED = Gain(1.2, 1.5)


def case(measured=1.3, rule="opt-unfused", tune="t1", machine=MACHINE):
    about = (measured, 0.95 * measured, 1.05 * measured)
    return Case(rule, "optimizer-fused", machine, 1.2, 1.5, *about, tune, 1.0)


def finding(rule="opt-unfused", severity="warn", gain=PREDICTED):
    return Finding(rule, severity, "title", "summary", (), gain=gain)


def past(*measured):
    return Calibration(tuple(case(one, tune=str(place)) for place, one in enumerate(measured)))


@pytest.fixture
def path(tmp_path):
    return tmp_path / "trainprof" / "calibration.json"


def test_where_it_lies():
    assert calibration_path({"XDG_STATE_HOME": "/state"}) == Path(
        "/state/trainprof/calibration.json"
    )
    home = Path.home() / ".local/state/trainprof/calibration.json"
    assert calibration_path({}) == calibration_path({"XDG_STATE_HOME": "not/absolute"}) == home


def test_what_was_added_is_read(path):
    add_cases(path, [case(), case(1.9, tune="t2")])
    add_cases(path, [])
    assert read_calibration(path) == Calibration((case(), case(1.9, tune="t2")))
    assert sorted(path.parent.iterdir()) == [path, path.with_suffix(".lock")]


def test_a_tune_that_went_on_counts_once(path):
    add_cases(path, [case(1.1)])
    add_cases(path, [case(1.4)])
    assert [one.measured for one in read_calibration(path).cases] == [1.4]


def test_the_latest_cases_are_kept(path):
    add_cases(path, [case(tune=str(number)) for number in range(MOST_CASES + 5)])
    kept = read_calibration(path).cases
    assert (len(kept), kept[0].tune) == (MOST_CASES, "5")


def test_tunes_that_end_at_the_same_time_lose_nothing(path):
    with ThreadPoolExecutor(8) as pool:
        list(pool.map(lambda number: add_cases(path, [case(tune=str(number))]), range(16)))
    assert len(read_calibration(path).cases) == 16


@pytest.mark.parametrize("text", ["", "{", "[]", "null", '{"format": 2}', '{"format": 1}'])
def test_a_file_that_cannot_be_used_is_said_and_begun_anew(path, text):
    path.parent.mkdir()
    path.write_text(text)
    found = read_calibration(path)
    assert found.cases == ()
    assert found.problem.endswith("it is ignored")
    add_cases(path, [case()])
    assert read_calibration(path) == Calibration((case(),))


@given(st.recursive(st.none() | st.integers() | st.text(max_size=3), st.lists, max_leaves=5))
def test_no_cases_do_worse_than_to_be_ignored(tmp_path_factory, cases):
    path = tmp_path_factory.mktemp("state") / "calibration.json"
    path.write_text(json.dumps({"format": 1, "cases": cases}))
    found = read_calibration(path)
    assert found.cases == ()
    assert found.problem is not None or cases == []


def test_a_file_that_cannot_be_read_is_said(path):
    path.mkdir(parents=True)
    assert "cannot be read (Is a directory)" in read_calibration(path).problem


def test_findings_say_how_often_their_rule_was_right():
    (known,) = with_past([finding()], past(1.3, 1.4, 1.9), MACHINE)
    assert (known.past, known.severity) == (PastPredictions(2, 3), "warn")
    assert gain_line(known).endswith("This prediction has been right in 2 of 3 past cases")


@pytest.mark.parametrize(
    ("low", "high", "right"), [(1.0, 1.3, True), (1.45, 2.0, True), (0.9, 1.1, False)]
)
def test_a_prediction_is_wrong_where_the_measurement_contradicts_it(low, high, right):
    assert replace(case(), measured_low=low, measured_high=high).right is right


def test_other_rules_and_machines_do_not_count():
    assert with_past([finding("loop-gc")], past(1.3), MACHINE)[0].past is None
    assert with_past([finding()], past(1.3), "a CPU, 64 cores")[0].past is None
    assert with_past([finding(gain=None)], past(1.3), MACHINE)[0].past is None


def test_a_rule_that_is_mostly_wrong_only_hints():
    wrong = past(1.3, 1.3, 1.0, 1.0, 1.0)
    hint, other = with_past([finding(severity="critical"), finding("loop-gc")], wrong, MACHINE)
    assert (other.rule, other.severity) == ("opt-unfused", "info")
    assert hint.rule == "loop-gc"


@pytest.mark.parametrize("measured", [(1.0,) * 4, (1.3, 1.3, 1.3, 1.0, 1.0)])
def test_few_cases_or_enough_that_were_right_leave_it(measured):
    assert with_past([finding()], past(*measured), MACHINE)[0].severity == "warn"
