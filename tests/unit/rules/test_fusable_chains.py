"""Chains of element-wise operators, and whether the watched steps had the same shapes."""

import pytest
from builders import START_NS, build_run, build_steps, build_trainer
from test_operators import call, signals, value, window

from trainprof.profiler.model.records import Event, Hardware
from trainprof.rules.signals.topics import measure
from trainprof.rules.signals.training import Training

ROWS = [(64, 32), (64, 32)]


def test_neighbours_make_a_chain_and_products_end_it():
    calls = [
        call("linear", 1000, shapes=ROWS),
        call("mul", 500, shapes=ROWS, backward_us=500),
        call("view", 1, shapes=ROWS),
        call("tanh", 1000, shapes=ROWS, backward_us=1000),
        call("add_", 1000, shapes=ROWS),
        call("linear", 1000, shapes=ROWS),
        call("relu", 1000, shapes=ROWS, backward_us=1000),
        call("linear", 1000, shapes=ROWS),
    ]
    measured = signals(window(calls))

    assert value(measured, "chain_share") == pytest.approx(0.4)
    assert value(measured, "chain_length") == pytest.approx(3.0)


def test_the_optimizer_makes_none():
    calls = [call(name, 1000, zone="optimizer") for name in ("mul_", "add_", "sqrt", "div_")]

    assert value(signals(window(calls)), "chain_share") == 0.0


def test_placed_where_the_dearest_operator_is_called():
    calls = [call("mul", 100, shapes=ROWS), call("tanh", 900, shapes=ROWS)]
    lines = [["mul", "/net.py", 5, "forward", True, 1], ["tanh", "/net.py", 6, "forward", True, 1]]

    assert value(signals(window(calls, lines)), "chain_where").line == 6


def test_shapes_repeat_only_where_two_steps_say_so():
    one = window([call("mul", shapes=ROWS), call("tanh", shapes=ROWS)])
    other = window([call("mul", shapes=[(64, 40)]), call("tanh", shapes=[(64, 40)])])

    assert value(signals(one), "shapes_repeat") is None
    assert value(signals(one, one), "shapes_repeat") is True
    assert value(signals(one, other), "shapes_repeat") is False


STEPS = build_steps(60, {"forward": 4.0, "backward": 6.0})


def of_run(facts=(), events=(), **info):
    run = build_run(build_trainer(STEPS, facts=facts, events=events), **info)
    return measure(Training(run, run.sessions[0]))


def test_torch_compile_is_seen_at_work_or_around_the_model():
    wrapped = [("model", "m0", {"wrapper": "OptimizedModule", "trained": True})]
    compiled = [Event("compile", START_NS, 10, {"frames": 1})]

    assert of_run().get("compilation.in_use").value is False
    assert of_run(wrapped).get("compilation.in_use").value is True
    assert of_run(events=compiled).get("compilation.in_use").value is True


@pytest.mark.parametrize(
    ("found", "expected", "reason"),
    [("/bin/g++", "/bin/g++", ""), ("", None, "there is none"), (None, None, "not looked for")],
)
def test_the_compiler_is_missing_for_one_of_two_reasons(found, expected, reason):
    signal = of_run(hardware=Hardware(cxx_compiler=found)).get("host.cxx_compiler")

    assert signal.value == expected
    assert reason in (signal.reason or "")
