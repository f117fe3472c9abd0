"""Whole tunes over recorded noise: what does nothing is hardly ever kept, what helps mostly is."""

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).resolve().parents[3] / "benchmarks"))

from simulated_tunes import NOISES, heavy_tailed, neighbours, simulate

PLACEBOS = ["a", "b", "c"]
MOST_KEPT = 0.025


@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_placebos_are_hardly_ever_kept(noise):
    tunes = 300
    assert simulate(tunes, noise, PLACEBOS)[""] <= MOST_KEPT * tunes


@pytest.mark.slow
@pytest.mark.timeout(3600)
@pytest.mark.parametrize("fixes", [PLACEBOS, ["a"]])
@pytest.mark.parametrize("noise", NOISES.values(), ids=NOISES)
def test_of_ten_thousand_tunes_one_in_forty_at_most_keeps_a_placebo(noise, fixes):
    assert simulate(10_000, noise, fixes)[""] <= MOST_KEPT * 10_000


def test_a_gain_of_a_third_is_kept_where_noise_allows_it():
    tunes = 60
    assert simulate(tunes, heavy_tailed, ["real", "b"], {"real": 1.3})["real"] >= 0.95 * tunes
    assert simulate(tunes, neighbours, ["real"], {"real": 2.0})["real"] >= 0.8 * tunes


def test_the_simulation_can_fail(monkeypatch):
    monkeypatch.setattr("trainprof.rules.statistics.pairs.ONE_SIDED_ERROR", 0.4)
    assert simulate(100, heavy_tailed, PLACEBOS)[""] > 3 * MOST_KEPT * 100
