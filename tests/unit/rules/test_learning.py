"""Logged series: which is judged, where its best lies, and what that makes of a run."""

import numpy as np
import pytest
from builders import START_NS, build_run, build_steps, build_trainer
from hypothesis import given
from hypothesis import strategies as st

from trainprof.profiler.model.diagnosis import Location
from trainprof.profiler.model.records import Event, LossValue
from trainprof.rules.diagnose import diagnose
from trainprof.rules.logged_metrics import (
    LoggedSeries,
    direction,
    is_validation,
    logged_series,
    noise,
    validation_series,
)
from trainprof.rules.signals.learning import first_unbeaten
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

WHERE = {"file": "train.py", "line": 7, "function": "validate"}
STEPS_PER_EVALUATION = 20


@pytest.mark.parametrize(
    ("tag", "validates", "better"),
    [
        ("loss/val", True, -1),
        ("eval_loss", True, -1),
        ("val_loss_epoch", True, -1),
        ("validAccuracy", True, 1),
        ("Test/Acc", True, 1),
        ("dev.f1", True, 1),
        ("valid/perplexity", True, -1),
        ("eval_runtime", True, 0),
        ("loss/train", False, -1),
        ("value_loss", False, -1),  # reinforcement learning
        ("interval", False, 0),
        ("devices", False, 0),
        ("latest_accuracy", False, 1),
        ("", False, 0),
    ],
)
def test_names(tag, validates, better):
    assert (is_validation(tag), direction(tag)) == (validates, better)


def series(tag, *values):
    return LoggedSeries(tag, None, list(range(len(values))), [float(v) for v in values])


def test_a_loss_is_judged_before_a_score():
    scores = [series("val/acc", 1, 2, 3), series("val/loss", 1, 2), series("val/speed", 1)]

    assert validation_series(scores).tag == "val/loss"
    assert validation_series(scores[:1]).tag == "val/acc"
    assert validation_series(scores[2:]) is None
    assert validation_series([series("val/loss", 1, float("nan"))]) is None


def test_events_become_series():
    events = [
        Event("metrics", 1_000_000, 9, {"values": {"a": [[5, 1, 0.5]]}, "where": {"a": WHERE}}),
        Event("metrics", 2_000_000, 9, {"values": {"a": [[7, None, "NaN"]]}, "where": {}}),
    ]

    one = logged_series(events)["a"]

    assert one.at_ns == [1_005_000, 2_007_000]
    assert one.values[0] == 0.5
    assert np.isnan(one.values[1])
    assert one.where == Location("train.py", 7, "validate")


@given(st.lists(st.floats(-100, 100), min_size=1, max_size=40), st.floats(0, 10))
def test_nothing_later_beats_the_first_unbeaten(values, margin):
    array = np.array(values)

    best = first_unbeaten(array, margin)

    assert array[best] <= array[best:].min() + margin
    assert all(array[i] > array[i:].min() + margin for i in range(best))


def test_noise_is_that_of_the_second_half_about_its_course():
    rng = np.random.default_rng(3)
    course = np.exp(-np.arange(400) / 20.0)

    assert noise(course + rng.normal(0, 0.02, 400)) == pytest.approx(0.02, rel=0.2)
    assert noise(np.linspace(3, 1, 50)) == pytest.approx(0.0, abs=1e-12)
    assert noise(np.array([1.0, 2.0])) == 0.0


def run_of(values, losses, *, tag="val/loss", facts=(), status="complete"):
    """An evaluation after every twenty steps of 10 ms."""
    count = STEPS_PER_EVALUATION * len(values)
    points = [
        [(place + 1) * STEPS_PER_EVALUATION * 10_000, place, value]
        for place, value in enumerate(values)
    ]
    event = Event("metrics", START_NS, 9, {"values": {tag: points}, "where": {tag: WHERE}})
    trainer = build_trainer(
        build_steps(count, {"forward": 10.0}),
        events=[event],
        facts=facts,
        losses=[LossValue(step, losses(step)) for step in range(count)],
    )
    return build_run(trainer, status=status)


def falling(step):
    return 1.0 / (1.0 + step / 100.0)


def test_signals_of_a_run_that_overfits():
    values = [1.0 - 0.1 * i for i in range(8)] + [0.3 + 0.02 * i for i in range(1, 25)]
    run = run_of(values, falling)

    signals = measure(Training(run, run.sessions[0]))

    assert signals.get("learning.best_evaluation").value == 8
    assert signals.get("learning.best_value").value == pytest.approx(0.3)
    assert signals.get("learning.after_best_time_share").value == pytest.approx(24 / 32, abs=0.01)
    assert signals.get("learning.after_best_slope").low > 0.0
    assert signals.get("learning.after_best_loss_slope").high < 0.0
    assert signals.get("learning.where").value == Location("train.py", 7, "validate")


def found(run):
    return {finding.rule: finding for finding in diagnose(run).findings}


def test_wasted_epochs_explain_the_gap():
    values = [1.0 - 0.1 * i for i in range(8)] + [0.3 + 0.02 * i for i in range(1, 25)]

    finding = found(run_of(values, falling))["fit-wasted-epochs"]

    assert finding.severity == "warn"
    assert "while the training loss still falls" in finding.summary
    assert finding.suppresses == ("fit-overfit-gap",)
    assert finding.gain is None


def test_a_score_is_better_when_higher():
    values = [0.5 + 0.05 * i for i in range(8)] + [0.84] * 24

    assert "fit-wasted-epochs" in found(run_of(values, falling, tag="val/acc"))
    assert "fit-wasted-epochs" not in found(run_of(sorted(values), falling, tag="val/acc"))


def test_a_schedule_that_has_not_run_out_keeps_it_silent():
    values = [1.0] * 8 + [0.5] * 24
    scheduled = [("optimizer", "o0", {"groups": [{"lr": 0.1, "initial_lr": 0.2}]})]
    running = {"facts": scheduled, "status": "running"}

    assert "fit-wasted-epochs" not in found(run_of(values, falling, **running))
    assert "fit-wasted-epochs" in found(run_of(values, falling, facts=scheduled))


@pytest.mark.parametrize("seed", range(5))
def test_noisy_progress_is_no_waste(seed):
    rng = np.random.default_rng(seed)
    values = 2.0 - np.arange(60) / 60.0 + rng.normal(0, 0.05, 60)

    assert "fit-wasted-epochs" not in found(run_of(list(map(float, values)), falling))


def test_nothing_logged_is_missing_not_zero():
    run = build_run(build_trainer(build_steps(30, {"forward": 10.0})))

    reason = measure(Training(run, run.sessions[0])).get("learning.evaluations").reason

    assert reason == "the script logs no validation result that could be read"
