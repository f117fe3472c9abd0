"""Signals untrained.*: from a fact and the phases of the steps."""

import pytest
from builders import build_run, build_steps, build_trainer

from trainprof.profiler.model.records import Event
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

STEPS = build_steps(60, {"forward": 4.0, "backward": 6.0})
FACT = {
    "parameters": 90,
    "trainable": 100,
    "modules": ["stem", "body"],
    "changed": False,
    "updates_compared": 50,
    "backward_samples": [[6000, 5000], [6000, 4000], [6000, 4500], [6000, 4500]],
    "on_cpu": True,
}


def signals(*, fact=None, optimizer=True, events=()):
    facts = [("optimizer", "o0", {"type": "SGD", "parameter_count": 10})] if optimizer else []
    if fact is not None:
        facts.append(("untrained", "all", fact))
    run = build_run(build_trainer(STEPS, facts=facts, events=events))
    return measure(Training(run, run.sessions[0]))


def test_share_of_the_step_is_that_of_the_backward_times_the_backwards():
    measured = signals(fact=FACT)
    share = measured.get("untrained.step_share")

    assert measured.get("untrained.parameter_share").value == 0.9
    assert measured.get("untrained.modules").value == "stem, body"
    assert measured.get("untrained.backward_share").value == pytest.approx(0.75)
    assert share.value == pytest.approx(0.45)
    assert share.low < 0.45 < share.high


def test_nothing_is_untrained_without_the_fact():
    measured = signals()

    assert measured.get("untrained.parameter_share").value == 0.0
    assert measured.get("untrained.step_share").value is None


def test_without_an_optimizer_nobody_can_tell():
    assert signals(optimizer=False).get("untrained.parameter_share").value is None


def test_values_compared_over_a_few_updates_prove_nothing():
    measured = signals(fact={**FACT, "updates_compared": 5})

    assert measured.get("untrained.changed").value is None
    assert signals(fact={**FACT, "changed": True}).get("untrained.changed").value is True


def test_an_accelerator_gives_no_time():
    measured = signals(fact={**FACT, "backward_samples": [], "on_cpu": False})

    assert "accelerator" in measured.get("untrained.step_share").reason


def test_a_failed_collector_is_lost_and_not_zero():
    data = {"collector": "untrained parameters", "error": "ValueError: odd"}
    measured = signals(events=[Event("collector_failed", 0, 0, data)])

    assert measured.get("untrained.parameter_share").lost


FROZEN = {
    "modules": ["backbone"],
    "parameters": 900,
    "changed": False,
    "updates_compared": 50,
    "random_layers": [],
    "samples": [[1000, 700], [1100, 780], [900, 620], [9000, 8000]],
    "rows_compared": 600,
    "rows_known": 95,
    "row_pairs": 160_000,
    "feature_bytes": 192,
}


def frozen_signals(devices="cpu", length=1600, **changes):
    facts = [
        ("model", "m0", {"parameter_count": 1, "devices": {devices: 1}, "trained": True}),
        ("loader", "l0", {"role": "training", "dataset_length": length, "iterators_made": 3}),
        ("frozen", "all", {**FROZEN, **changes}),
    ]
    run = build_run(build_trainer(STEPS, facts=facts))
    return measure(Training(run, run.sessions[0]))


def test_frozen_share_is_taken_from_steps_without_a_validation():
    assert frozen_signals().get("frozen.step_share").value == pytest.approx(0.7)


def test_rows_to_be_expected_again_are_pairs_over_the_data_set():
    measured = frozen_signals()

    assert measured.get("frozen.rows_expected").value == pytest.approx(100.0)
    assert measured.get("frozen.rows_known_share").value == pytest.approx(0.95)


def test_without_a_length_no_rows_are_expected():
    assert frozen_signals(length=None).get("frozen.rows_expected").value is None


def test_an_accelerator_gives_no_frozen_share():
    assert frozen_signals(devices="cuda:0").get("frozen.step_share").value is None


def test_layers_in_training_mode_are_named_and_none_is_missing():
    measured = frozen_signals(random_layers=["BatchNorm2d"])
    assert measured.get("frozen.random_layers").value == "BatchNorm2d"
    assert frozen_signals().get("frozen.random_layers").reason == "there is none"


def test_time_of_zeroing_gradients():
    fact = {"kept": True, "samples": [[1000, 100], [1000, 120], [1000, 80]]}
    run = build_run(build_trainer(STEPS, facts=[("gradients", "all", fact)]))
    measured = measure(Training(run, run.sessions[0]))

    assert measured.get("gradients.zeroing_share").value == pytest.approx(0.1)
    assert signals().get("gradients.kept").value is None


def test_what_was_taken_back_is_nothing():
    measured = signals(fact={"parameters": 0})
    assert measured.get("untrained.parameter_share").value == 0.0
    assert measured.get("untrained.step_share").value is None
    assert frozen_signals(parameters=0).get("frozen.step_share").value is None
