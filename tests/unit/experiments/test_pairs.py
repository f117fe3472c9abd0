"""Ratios of pairs, and decisions that rarely keep what does nothing."""

import math

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from trainprof.rules.statistics.pairs import LOOKS, decide, detectable, paired_ratio
from trainprof.rules.statistics.student import student_cdf, student_quantile


@pytest.mark.parametrize(
    ("probability", "degrees", "value"),
    [(0.975, 1, 12.7062), (0.975, 5, 2.5706), (0.95, 10, 1.8125), (0.995, 30, 2.7500)],
)
def test_quantiles_are_those_of_the_tables(probability, degrees, value):
    assert student_quantile(probability, degrees) == pytest.approx(value, abs=1e-4)


@given(st.floats(0.5, 0.999), st.integers(1, 60))
def test_a_quantile_is_where_the_probability_is_reached(probability, degrees):
    assert student_cdf(student_quantile(probability, degrees), degrees) == pytest.approx(
        probability, abs=1e-6
    )


def test_the_interval_is_students():
    ratio = paired_ratio([math.log(value) for value in (1.1, 1.2, 1.3, 1.2)])
    assert ratio.point == pytest.approx(1.1978, abs=1e-3)
    assert (ratio.low, ratio.high) == pytest.approx((1.0747, 1.3353), abs=1e-3)


def test_one_pair_has_no_interval():
    assert paired_ratio([0.1]).low is None


def test_no_pair_is_no_ratio():
    with pytest.raises(ValueError, match="needs a pair"):
        paired_ratio([])


@given(st.lists(st.floats(-1, 1), min_size=1, max_size=16).filter(lambda x: len(x) not in LOOKS))
def test_between_looks_nothing_is_decided(log_ratios):
    assert decide(log_ratios) == "more"


def looks(log_ratios):
    """The decision, as a tune comes to it."""
    for count in LOOKS:
        decision = decide(log_ratios[:count])
        if decision != "more":
            return decision
    return "undecided"


def test_what_does_nothing_is_kept_in_one_of_forty():
    rng = np.random.default_rng(5)
    noise = 0.05 * rng.standard_t(3, size=(4_000, LOOKS[-1]))
    kept = sum(looks(list(row)) == "keep" for row in noise)
    assert kept / len(noise) <= 0.025


def test_a_gain_of_two_deviations_is_kept():
    rng = np.random.default_rng(6)
    noise = rng.normal(0.10, 0.05, size=(500, LOOKS[-1]))
    kept = sum(looks(list(row)) == "keep" for row in noise)
    assert kept / len(noise) >= 0.98


def test_a_gain_too_small_to_matter_is_not_kept():
    rng = np.random.default_rng(7)
    assert looks(list(rng.normal(0.015, 0.001, size=LOOKS[-1]))) == "undecided"


def test_no_gain_is_dropped_at_the_first_look():
    rng = np.random.default_rng(8)
    assert decide(list(rng.normal(-0.02, 0.01, size=LOOKS[0]))) == "drop"


def test_what_can_be_seen_is_that_of_the_table():
    assert detectable(0.05, 6) == pytest.approx(1.0737, abs=2e-3)
    assert detectable(0.05, 16) < detectable(0.05, 6)
