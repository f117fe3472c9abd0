"""Rates, intervals and the page of the zoo."""

import math
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from zoo.cases import ZOO, Case, Script
from zoo.figures import detection_curve, figures_of
from zoo.intervals import Rate
from zoo.judge import FaultVerdict, HealthyVerdict
from zoo.results import Result
from zoo.table import write_page, wrong_of

WRITTEN = ZOO / "cases" / "any"


def fault_verdict(rank=1, **more):
    given_ = {
        "said": ("loop-gc",),
        "second_rank": None,
        "unplanted_ahead": (),
        "blamed": 1,
        "blamed_rightly": 1,
        "alarms": (),
        "where": True,
        "next_named": None,
        "rule": "loop-gc",
        "severity": "warn",
        "predicted_share": 0.3,
    }
    return FaultVerdict(rank=rank, **{**given_, **more})


def result(verdict=None, role="fault", planted=0.25, level=None, group="cases", folder="any"):
    plants = () if role == "healthy" else ("loop-gc",)
    case = Case(group, Path(folder), "a case", plants, (None,) * len(plants))
    script = Script(case, role, "train.py", level=level)
    is_fault = role == "fault"
    return Result(
        script, verdict if is_fault else None, None if is_fault else verdict, 0.01, planted, 0.0
    )


def healthy(*alarms, verdict="healthy"):
    return result(HealthyVerdict(alarms, (), verdict), role="healthy")


def test_wilson_of_a_textbook_case():
    """Newcombe, Statistics in Medicine 17 (1998), table I: 81 of 263, and 0 of 20."""
    assert Rate(81, 263).interval == pytest.approx((0.2553, 0.3662), abs=5e-5)
    assert Rate(0, 20).interval == pytest.approx((0.0, 0.1611), abs=5e-5)
    assert Rate(0, 0).interval is None


@given(st.integers(1, 500).flatmap(lambda n: st.tuples(st.integers(0, n), st.just(n))))
def test_an_interval_holds_its_share(counts):
    hits, total = counts
    low, high = Rate(hits, total).interval
    assert 0.0 <= low <= hits / total + 1e-12
    assert hits / total - 1e-12 <= high <= 1.0
    mirrored = Rate(total - hits, total).interval
    assert math.isclose(low, 1 - mirrored[1], abs_tol=1e-9)


def test_recall_counts_a_failed_script_as_missed():
    figures = figures_of([result(fault_verdict()), result(None), result(fault_verdict(rank=2))])
    assert (figures.recall_1, figures.recall_2) == (Rate(1, 3), Rate(2, 3))


def test_precision_counts_findings_on_faults_and_on_healthy_scripts():
    noisy = fault_verdict(blamed=3, blamed_rightly=1, alarms=("opt-unfused", "prec-fp64"))
    figures = figures_of([result(noisy), healthy("opt-unfused"), healthy()])
    assert figures.precision == Rate(1, 4)
    assert figures.clean == Rate(1, 2)
    assert figures.alarms_per_script == 0.5


def test_a_healthy_script_that_cannot_be_judged_is_told_apart():
    assert figures_of([healthy(verdict="insufficient"), healthy()]).undecided == Rate(1, 2)


def test_shares_are_compared_where_both_are_known():
    some = [result(fault_verdict()), result(fault_verdict(), planted=None)]
    figures = figures_of([*some, result(fault_verdict(predicted_share=None))])
    assert figures.share_pairs == 1
    assert figures.share_error == pytest.approx(0.05)


def test_detection_curve():
    levels = [
        result(fault_verdict(rank=None, rule=None, severity=None), level=2),
        result(fault_verdict(severity="info"), level=5),
        result(fault_verdict(), level=25),
        result(fault_verdict(rank=2), level=25),
    ]
    curve = {one.percent: (one.found, one.warned) for one in detection_curve(levels)}
    assert curve == {
        2: (Rate(0, 1), Rate(0, 1)),
        5: (Rate(1, 1), Rate(0, 1)),
        25: (Rate(1, 2), Rate(1, 2)),
    }


@pytest.mark.parametrize(
    ("one", "text"),
    [
        (result(fault_verdict()), ""),
        (healthy(), ""),
        (result(None), "failed"),
        (healthy("opt-unfused"), "false alarm of `opt-unfused`"),
        (result(fault_verdict(rank=None, said=())), "not found; said: nothing"),
        (result(fault_verdict(rank=2, said=("opt-unfused", "loop-gc"))), "after `opt-unfused`"),
        (result(fault_verdict(alarms=("prec-fp64",))), "wrongly `prec-fp64`"),
        (result(fault_verdict(rank=None, said=()), level=2), ""),
        (result(fault_verdict(rank=None, said=()), level=25), "not found"),
    ],
)
def test_everything_wrong_is_named(one, text):
    assert text in wrong_of(one)
    assert bool(text) == bool(wrong_of(one))


@pytest.fixture
def some_results(tmp_path):
    (tmp_path / "train.py").write_text("pass\n")
    return [
        result(fault_verdict(), folder=tmp_path),
        result(fault_verdict(), folder=tmp_path, level=5, group="severity"),
        result(HealthyVerdict((), (), "healthy"), role="healthy", folder=tmp_path),
    ]


def test_a_partial_page_says_so(some_results):
    assert "Partial: 3 of 9 scripts" in write_page(some_results, scripts=9)
    assert "Partial" not in write_page(some_results, scripts=3)


def test_tables_of_the_page_are_whole(some_results):
    page = write_page(some_results, scripts=3)
    tables = [block.splitlines() for block in page.split("\n\n") if block.startswith("|")]
    assert len(tables) == 4
    for table in tables:
        assert len({line.count("|") for line in table}) == 1
