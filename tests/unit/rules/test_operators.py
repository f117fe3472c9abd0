"""Signals of the operators: patterns in one step's calls, and steps that the window disturbed."""

import pytest
from builders import MS, START_NS, build_run, build_steps, build_trainer

from trainprof.profiler.model.records import Event
from trainprof.rules.signals import measure
from trainprof.rules.signals.training import Training

ZONES = ["forward", "backward", "before_update", "optimizer", "zero_grad", "between", "loader"]
STEP_NS = 10 * MS


def call(name, wall_us=100, *, shapes=(), backward_us=0, rearranged_us=0, zone="forward", reads=()):
    return {
        "name": f"aten::{name}",
        "shapes": [list(shape) for shape in shapes],
        "wall": wall_us * 10,
        "backward": backward_us * 10,
        "rearranged": rearranged_us * 10,
        "zone": zone,
        "reads": list(reads),
        "dtype": "float32",
    }


def window(calls, lines=(), parameters=(), gradients=(), wall_ns=STEP_NS):
    """The fact of one window."""
    columns = {name: [] for name in ("operator", "zone", "start", "wall", "backward")}
    columns |= {"rearranged": [], "reads": []}
    operators, now = [], 0
    for one in calls:
        entry = [one["name"], one["shapes"], [one["dtype"]] * len(one["shapes"])]
        if entry not in operators:
            operators.append(entry)
        row = {**one, "operator": operators.index(entry), "start": now}
        row["zone"] = ZONES.index(one["zone"])
        for name, column in columns.items():
            column.append(row[name])
        now += one["wall"] + 10
    return {
        "wall_ns": wall_ns,
        "unit_ns": 100,
        "zones": ZONES,
        "operators": operators,
        "calls": columns,
        "kernels": [],
        "parameters": list(parameters),
        "gradients": list(gradients),
        "truncated": False,
        "lines": list(lines),
    }


def signals(*facts, events=(), steps=100):
    trainer = build_trainer(
        build_steps(steps, {"forward": 4.0, "backward": 6.0}),
        facts=[("operators", f"w{place}", fact) for place, fact in enumerate(facts)],
        events=events,
    )
    run = build_run(trainer)
    return measure(Training(run, run.sessions[0]))


def value(measured, name):
    return measured.get(f"operators.{name}").value


SCORES = [(2, 4, 64, 16), (2, 4, 16, 64)]
WEIGHTS = [(2, 4, 64, 64)]
VALUES = [(2, 4, 64, 64), (2, 4, 64, 16)]


def attention(*between, after=()):
    return [
        call("matmul", 1000, shapes=SCORES, backward_us=1000),
        *between,
        call("softmax", 500, shapes=WEIGHTS, backward_us=500),
        *after,
        call("matmul", 1000, shapes=VALUES, backward_us=1000),
    ]


class TestAttention:
    def test_found_with_scale_mask_and_dropout(self):
        chain = attention(
            call("div", 100), call("masked_fill", 100, backward_us=100), after=[call("dropout")]
        )
        measured = signals(window([call("linear"), *chain, call("linear"), *attention()]))
        assert value(measured, "attention_count") == 2
        assert value(measured, "attention_share") == pytest.approx(1.0, abs=0.1)
        assert value(measured, "attention_length") == 64
        assert value(measured, "attention_masked") is True

    def test_placed_where_the_softmax_is_called(self):
        lines = [
            ["softmax", "/train.py", 8, "step", False, 9],
            ["softmax", "/model.py", 31, "forward", True, 2],
        ]
        place = value(signals(window(attention(), lines)), "attention_where")
        assert (place.file, place.line) == ("/model.py", 31)

    @pytest.mark.parametrize(
        "calls",
        [
            pytest.param(
                [call("linear"), call("softmax", shapes=[(2, 64, 8)]), call("linear")], id="a gate"
            ),
            pytest.param(
                [
                    call("matmul", shapes=[(64, 16), (16, 64)]),
                    call("softmax", shapes=[(64, 64)]),
                    call("matmul", shapes=[(64, 64), (64, 16)]),
                ],
                id="matrices without a batch",
            ),
            pytest.param(
                [
                    call("matmul", shapes=SCORES),
                    call("linear"),
                    call("softmax", shapes=WEIGHTS),
                    call("matmul", shapes=VALUES),
                ],
                id="something learnt in between",
            ),
            pytest.param([call("softmax", shapes=WEIGHTS)], id="a softmax alone"),
            pytest.param(
                [call("scaled_dot_product_attention", shapes=[SCORES[0]] * 3)], id="fused"
            ),
        ],
    )
    def test_not_found(self, calls):
        measured = signals(window(calls))
        assert value(measured, "attention_count") == 0
        assert value(measured, "attention_share") == 0.0


def test_the_shortest_window_counts():
    calm, disturbed = window([call("mul")]), window([call("mul")], wall_ns=3 * STEP_NS)
    measured = signals(disturbed, calm)
    assert value(measured, "window_s") == pytest.approx(0.01)
    assert measured.get("operators.window_s").samples == 2


def test_without_a_window_the_reason_is_told():
    trainer = build_trainer(
        build_steps(50, {"forward": 1.0}), facts=[("operators", "status", {"reason": "why not"})]
    )
    run = build_run(trainer)
    measured = measure(Training(run, run.sessions[0]))
    assert measured.get("operators.attention_share").reason == "why not"


class TestDisturbedSteps:
    def columns(self, events, steps=100):
        run = build_run(build_trainer(build_steps(steps, {"forward": 10.0}), events=events))
        return Training(run, run.sessions[0]).columns["index"].tolist()

    def test_are_left_out(self):
        event = Event("operators", START_NS + 505 * MS, 10 * MS)
        kept = self.columns([event])
        assert sorted({*range(100)} - {*kept}) == [50, 51]

    def test_count_where_nearly_all_are(self):
        assert len(self.columns([Event("operators", START_NS, 900 * MS)])) == 100

    def test_other_events_disturb_nothing(self):
        assert len(self.columns([Event("gc", START_NS, 100 * MS)])) == 100
