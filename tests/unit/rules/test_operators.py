"""Signals of the operators: patterns in one step's calls, and steps that the window disturbed."""

import pytest
from builders import MS, START_NS, build_run, build_steps, build_trainer

from trainprof.profiler.model.records import Event
from trainprof.rules.signals.topics import measure
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


def cell(turn, weight=1):
    """One turn over time: slices of the same series, the same weights, a state of its own."""
    return [
        call("select", 5, shapes=[(16, 48, 4)], reads=[0]),
        call("lstm_cell", 60, shapes=[(16, 4), (64, 4)], backward_us=80, reads=[0, weight]),
        call("tanh", 10, shapes=[(16, 32)], reads=[100 + turn]),
    ]


def layer(number, weight):
    return [
        call(
            "linear", 30, shapes=[(16, 32), (32, 32)], backward_us=60, reads=[100 + number, weight]
        ),
        call("relu", 5, shapes=[(16, 32)], backward_us=5, reads=[200 + number]),
    ]


def turns(count, make):
    return [one for turn in range(count) for one in make(turn)]


class TestLoops:
    def test_a_loop_over_time(self):
        lines = [
            ["lstm_cell", "/model.py", 23, "forward", False, 20],
            ["stack", "/model.py", 25, "forward", True, 1],
        ]
        measured = signals(window(turns(20, cell), lines, parameters=[1]))
        assert value(measured, "loop_turns") == 20
        assert value(measured, "loop_body") == 3
        assert value(measured, "loop_median_s") == pytest.approx(10e-6)
        # 20 turns of 75 us and 3 gaps of 1 us, and 80 us of backward each
        assert value(measured, "loop_share") == pytest.approx(0.316, abs=0.002)
        assert value(measured, "loop_where").line == 23

    @pytest.mark.parametrize(
        "calls",
        [
            pytest.param(turns(9, cell), id="nine turns"),
            pytest.param(turns(20, lambda turn: layer(turn, 1 + turn)), id="layers of a deep net"),
            pytest.param(turns(12, lambda turn: [call("add", reads=[turn])]), id="nothing shared"),
            pytest.param(
                turns(20, lambda turn: [*layer(turn, 900 + turn), call("add", reads=[turn, 7])]),
                id="frozen layers under one mask",
            ),
            pytest.param(
                turns(20, lambda turn: [call("mul", shapes=[(turn,)], reads=[0])]),
                id="other shapes at each turn",
            ),
        ],
    )
    def test_no_loop(self, calls):
        measured = signals(window(calls, parameters=range(1, 50)))
        assert value(measured, "loop_share") == 0.0

    def test_accumulated_batches_are_no_loop(self):
        micro = [
            call("linear", reads=[0, 1], backward_us=10),
            call("AddmmBackward0", zone="backward"),
        ]
        assert value(signals(window(micro * 16, parameters=[1])), "loop_share") == 0.0

    def test_depth_of_shared_weights_inside_other_operators(self):
        calls = [call("embedding"), *turns(12, cell), call("linear"), call("cross_entropy_loss")]
        measured = signals(window(calls, parameters=[1]))
        assert value(measured, "loop_turns") == 12


def averages(count, zone="between"):
    return [
        one
        for tensor in range(count)
        for one in (
            call("mul_", 4, shapes=[(tensor,)], zone=zone, reads=[1000 + tensor]),
            call("add_", 6, shapes=[(tensor,)], zone=zone, reads=[1000 + tensor, tensor]),
        )
    ]


MUL = ["mul_", "/train.py", 33, "average", True, 40]


class TestParameterLoops:
    def test_a_moving_average(self):
        measured = signals(window(averages(40), [MUL], parameters=range(40)))
        assert value(measured, "parameter_loop_tensors") == 40
        # 40 turns of 10 us and 2 gaps of 1 us
        assert value(measured, "parameter_loop_share") == pytest.approx(0.048, abs=0.001)
        assert value(measured, "parameter_loop_where").line == 33
        assert value(measured, "parameter_loop_item") is False

    def test_norms_read_one_by_one(self):
        calls = [
            one
            for tensor in range(30)
            for one in (
                call("norm", 8, zone="before_update", reads=[tensor]),
                call("item", 3, zone="before_update", reads=[500 + tensor]),
            )
        ]
        lines = [["norm", "/train.py", 20, "clip", True, 30]]
        measured = signals(window(calls, lines, gradients=range(30)))
        assert value(measured, "parameter_loop_item") is True

    @pytest.mark.parametrize(
        ("calls", "lines", "known"),
        [
            pytest.param(averages(40), [[*MUL[:4], False, 40]], range(40), id="in a library"),
            pytest.param(averages(40), [], range(40), id="lines were not seen"),
            pytest.param(averages(40), [MUL], (), id="other tensors"),
            pytest.param(averages(8), [MUL], range(40), id="few"),
        ],
    )
    def test_none(self, calls, lines, known):
        measured = signals(window(calls, lines, parameters=known))
        assert value(measured, "parameter_loop_share") == 0.0


class TestOneHot:
    def test_with_the_product_it_goes_into(self):
        calls = [
            call("one_hot", 300),
            call("to", 200),
            call("linear", 500, shapes=[(8, 24, 4000), (48, 4000)], backward_us=1000),
        ]
        measured = signals(window(calls))
        assert value(measured, "onehot_share") == pytest.approx(0.2)
        assert value(measured, "onehot_classes") == 4000

    def test_as_a_target_it_is_none(self):
        calls = [call("linear"), call("one_hot", 300), call("mse_loss")]
        assert value(signals(window(calls)), "onehot_share") == 0.0


def test_rearranging_copies_and_where_most_are():
    calls = [
        call("contiguous", 600, rearranged_us=500),
        call("reshape", 200, rearranged_us=100),
        call("CloneBackward0", 500, rearranged_us=400, zone="backward"),
    ]
    lines = [["contiguous", "/model.py", 22, "forward", True, 2]]
    measured = signals(window(calls, lines))
    assert value(measured, "rearranged_share") == pytest.approx(0.1)
    assert value(measured, "rearranged_in") == "contiguous, reshape"
    assert value(measured, "rearranged_where").line == 22


class TestEmbedding:
    LOOKUP = call("embedding", 50, shapes=[(150_000, 32), (64, 6)], backward_us=4000, reads=[3, 4])

    def test_a_dense_gradient(self):
        fact = window([self.LOOKUP])
        fact["kernels"] = [["backward", "aten::embedding_dense_backward", 1, 30_000]]
        measured = signals(fact)
        assert value(measured, "embedding_rows") == 150_000
        assert value(measured, "embedding_touched_share") == pytest.approx(384 / 150_000)
        assert value(measured, "embedding_bytes") == 150_000 * 32 * 4
        assert value(measured, "embedding_backward_share") == pytest.approx(0.4)

    def test_a_sparse_gradient_is_none_of_it(self):
        assert value(signals(window([self.LOOKUP])), "embedding_rows") is None


def test_pauses_between_operators_but_not_long_ones():
    fact = window([call("linear", 10) for _ in range(101)])
    fact["calls"]["start"][-1] += 1_000_000  # a tenth of a second
    measured = signals(fact)
    assert value(measured, "gap_share") == pytest.approx(99 * 1_000 / STEP_NS)
    assert value(measured, "count") == 101


def test_short_operators_count_with_the_pauses_and_long_ones_do_not():
    fact = window([call("linear", 10) for _ in range(11)])
    fact["kernels"] = [
        ["forward", "aten::add", 100, 10_000],  # 10 us each
        ["backward", "aten::mm", 100, 19_000],
        ["backward", "aten::mul", 100, 40_000],
        ["optimizer", "aten::mul_", 100, 10_000],
    ]
    measured = signals(fact)
    assert value(measured, "gap_share") == pytest.approx(0.001)
    assert value(measured, "short_share") == pytest.approx(0.001 + 0.1 + 0.19)


def test_wide_products_in_single_precision():
    wide = call("linear", 1000, shapes=[(128, 512), (512, 512)], backward_us=2000)
    narrow = call("linear", 1000, shapes=[(128, 512), (64, 512)], backward_us=2000)
    half = {**wide, "dtype": "bfloat16"}
    assert value(signals(window([wide, narrow, half])), "product_share") == pytest.approx(0.3)


def test_a_call_that_lost_its_cpu_is_cut_and_taken_off_the_step():
    calls = [call("linear", wall, shapes=[(8, 8)]) for wall in (100, 100, 100, 5_000)]
    measured = signals(window([*calls, call("tanh", 4_000)]))
    assert value(measured, "window_s") == pytest.approx((10_000 - 5_000 + 400) * 1e-6)


def test_waiting_for_a_cpu_is_not_the_steps():
    waited = {**window([call("tanh", 2_000)]), "run_queue_ns": 6_000_000}
    unknown = {**window([call("tanh", 2_000)]), "run_queue_ns": -1}
    assert value(signals(waited), "window_s") == pytest.approx(0.004)
    assert value(signals(unknown), "window_s") == pytest.approx(0.01)


def compilation(at_step, *, again, duration_ms=20):
    start_ns = START_NS + at_step * 10 * MS
    data = {
        "frames": int(not again),
        "recompiles": int(again),
        "where": {"file": "a.py", "line": 4},
    }
    return Event("compile", start_ns, duration_ms * MS, data)


def test_compilations_after_the_warm_up():
    events = [
        compilation(0, again=False),
        compilation(2, again=True),  # in the warm-up
        compilation(60, again=False),  # another function
        compilation(70, again=True, duration_ms=10),
        compilation(80, again=True, duration_ms=30),
    ]
    run = build_run(build_trainer(build_steps(100, {"forward": 10.0}), events=events))
    measured = measure(Training(run, run.sessions[0]))
    assert measured.get("compilation.recompiles").value == 2
    assert measured.get("compilation.mean_s").value == pytest.approx(0.02)
    assert measured.get("compilation.where").value.line == 4


def test_nothing_compiled():
    run = build_run(build_trainer(build_steps(100, {"forward": 10.0})))
    assert measure(Training(run, run.sessions[0])).get("compilation.recompiles").value == 0
