"""A training on this machine, before and after its loader got workers: as predicted."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[3] / "benchmarks"))

pytest.importorskip("torch")


@pytest.mark.slow
@pytest.mark.parametrize("place", [0, 1])
def test_workers_gain_what_was_predicted(place):
    from what_if_pairs import PAIRS, compared

    found = compared(PAIRS[place])
    assert found.before_s > 1.5 * found.after_s
    assert abs(found.error) < 0.15
