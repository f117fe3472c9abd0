"""T = a + b B from batches of two sizes: the plant comes back, and silence where it cannot."""

import numpy as np
import pytest
from builders import build_run, build_steps, build_trainer

from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training


def signals_of(sizes, time_ms, noise=0.0, validation=0.0):
    """Steps of the given sizes; the last of each epoch is smaller and is followed by validation."""
    rng = np.random.default_rng(1)

    def phases(index):
        ms = time_ms(sizes[index % len(sizes)]) + rng.normal(0, noise)
        last = index % len(sizes) == len(sizes) - 1
        return {"forward": ms / 2, "backward": ms / 2, "validation": validation * last}

    steps = build_steps(20 * len(sizes), phases)
    for place in range(len(steps)):
        steps.columns["samples"][place] = sizes[place % len(sizes)]
    run = build_run(build_trainer(steps))
    return measure(Training(run, run.sessions[0]))


def test_the_fixed_part_comes_back():
    signals = signals_of([32] * 9 + [8], lambda b: 3.0 + 0.1 * b, noise=0.05, validation=50.0)

    share = signals.get("batch_size.fixed_share")
    assert signals.get("batch_size.usual").value == 32
    assert signals.get("batch_size.other").value == 8
    assert share.value == pytest.approx(3.0 / 6.2, abs=0.03)
    assert share.low < 3.0 / 6.2 < share.high
    assert signals.get("batch_size.per_sample_s").value == pytest.approx(1e-4, rel=0.1)


@pytest.mark.parametrize(
    ("sizes", "reason"),
    [([32] * 10, "same size"), ([32] * 9 + [30], "too similar")],
)
def test_no_variation_is_no_answer(sizes, reason):
    signal = signals_of(sizes, lambda b: 3.0 + 0.1 * b).get("batch_size.fixed_share")

    assert signal.value is None
    assert reason in signal.reason


def test_larger_batches_that_are_faster_are_no_line():
    signal = signals_of([32] * 9 + [8], lambda b: 10.0 - 0.1 * b).get("batch_size.fixed_share")

    assert "do not grow" in signal.reason
