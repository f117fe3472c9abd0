"""Signals denormals.*: from the looks at a training."""

import pytest
from builders import MS, START_NS, build_run, build_steps, build_trainer

from trainprof.profiler.model.records import Event
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

STEPS = build_steps(60, {"forward": 4.0, "backward": 6.0})
FACT = {
    "elements": {"parameters": 2_000, "operands": 4_000, "optimizer state": 0},
    "subnormal": {"parameters": 1_500, "operands": 40, "optimizer state": 0},
    "worst": "parameters: body.weight",
    "worst_fraction": 1.0,
    "flushed": False,
    "samples": [
        [1_000, 0, 0, 0, 0],
        [2_000, 900, 100, 200, 20],
        [2_000, 1_100, 100, 200, 20],
        [2_000, 1_000, 100, 200, 20],
    ],
    "complete": True,
}


def signals(fact=FACT, events=(), steps=STEPS):
    facts = [("denormals", "all", fact)] if fact is not None else []
    run = build_run(build_trainer(steps, facts=facts, events=events))
    return measure(Training(run, run.sessions[0]))


def test_the_kind_with_most_is_named():
    measured = signals()

    assert measured.get("denormals.fraction").value == 0.75
    assert measured.get("denormals.kind").value == "parameters"
    assert measured.get("denormals.worst").value == "parameters: body.weight"


def test_what_is_saved_holds_for_the_time_in_which_there_were_any():
    share = signals().get("denormals.forward_share")
    update = signals().get("denormals.update_share")

    assert signals().get("denormals.speedup").value == pytest.approx(10.0)
    assert update.value == update.low == update.high == pytest.approx(0.75 * 0.09)
    assert share.value == pytest.approx(0.75 * 2_700 / 6_000)
    assert share.low == pytest.approx(0.75 * 0.4)
    assert share.high == pytest.approx(0.75 * 0.5)


def test_without_any_there_is_nothing_to_try():
    fact = {**FACT, "subnormal": {}, "worst": None, "samples": [[1_000, 0, 0, 0, 0]] * 3}
    measured = signals(fact)

    assert measured.get("denormals.fraction").value == 0.0
    assert measured.get("denormals.kind").value is None
    assert measured.get("denormals.speedup").value is None
    assert measured.get("denormals.looks").value == 3


def test_the_switch_that_is_on_leaves_nothing_to_see():
    measured = signals({**FACT, "flushed": True})

    assert measured.get("denormals.fraction").value is None
    assert "already" in measured.get("denormals.fraction").reason


def test_nothing_of_float32_on_the_cpu_is_missing_and_not_zero():
    assert signals({**FACT, "elements": {}}).get("denormals.fraction").value is None
    assert signals(None).get("denormals.fraction").value is None


def test_a_failed_collector_is_lost():
    data = {"collector": "denormals", "error": "ValueError: odd"}

    assert signals(events=[Event("collector_failed", 0, 0, data)]).get("denormals.fraction").lost


def test_steps_that_a_look_held_up_are_left_out_of_the_timings():
    steps = build_steps(60, lambda index: {"forward": 500.0 if index == 30 else 10.0})
    look = Event("denormals", START_NS + 310 * MS, 400 * MS, {})

    assert signals(steps=steps, events=[look]).get("step.mean_s").value == pytest.approx(0.01)
