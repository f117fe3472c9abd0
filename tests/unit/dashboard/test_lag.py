"""How long after a record is in the run folder the screen shows it."""

import pytest
from lags import lags_s


def test_the_screen_follows_a_run(tmp_path):
    """Half of the flushes, once in three times: CI's machines are shared."""
    medians_s = []
    while len(medians_s) < 3 and min(medians_s, default=1.0) >= 0.5:
        run = tmp_path / f"run-{len(medians_s)}"
        lags = lags_s(run, ranks=2, steps_per_s=500, seconds=2)
        assert len(lags) > 5
        medians_s.append(sorted(lags)[len(lags) // 2])
    assert min(medians_s) < 0.5, medians_s


@pytest.mark.slow
def test_the_screen_follows_8_ranks_at_1000_steps_a_second(tmp_path):
    lags = sorted(lags_s(tmp_path / "run", ranks=8, steps_per_s=1000, seconds=10))
    print(f"lag median {lags[len(lags) // 2]:.3f} s, 95 % {lags[int(len(lags) * 0.95)]:.3f} s")
    assert lags[int(len(lags) * 0.95)] < 0.5
