"""Subnormal numbers are seen wherever they are, tried, and the training is left as it was."""

from __future__ import annotations

import sys

import pytest

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402

from trainprof.profiler.agent import guard  # noqa: E402
from trainprof.profiler.agent.backward_watch import BackwardWatch  # noqa: E402
from trainprof.profiler.agent.denormals import Denormals  # noqa: E402
from trainprof.profiler.agent.flush_trial import FlushTrial  # noqa: E402
from trainprof.profiler.agent.recorder import Recorder  # noqa: E402
from trainprof.profiler.agent.saved_tensors import saved_operators  # noqa: E402

TINY = 1e-40


def operators_of(outputs):
    return saved_operators(torch, outputs, 64)[0]


@pytest.fixture(autouse=True)
def nothing_is_left():
    guard.reset()
    before = torch.autograd._engine_run_backward
    yield
    assert torch.autograd._engine_run_backward is before
    assert guard.failures == []
    assert sys.float_info.min / 2 > 0.0, "the switch is still on"


def network():
    torch.manual_seed(0)
    layers = (torch.nn.Linear(64, 64), torch.nn.ReLU(), torch.nn.Linear(64, 1))
    return torch.nn.Sequential(*layers)


def momentum(parameters):
    return torch.optim.SGD(parameters, lr=0.1, momentum=0.9)


def look_at(model, run=None, steps=3, look=True, optimizer=momentum):
    """What a look at a training says, and its losses."""
    recorder = Recorder()
    recorder.follow_thread()
    backwards = BackwardWatch(torch, recorder)
    denormals = Denormals(torch, recorder, backwards)
    optimizer = optimizer(model.parameters())
    run = run or model
    if look:
        denormals.look([model], [optimizer])
    losses = []
    for _ in range(steps):
        optimizer.zero_grad()
        loss = run(torch.randn(32, 64)).pow(2).mean()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    fact = denormals.look([model], [optimizer])
    backwards.stop()
    return fact, losses, denormals


def test_an_ordinary_training_has_none():
    fact, _, _ = look_at(network())

    assert fact["elements"]["parameters"] > 1_000
    assert fact["elements"]["operands"] > 1_000
    assert fact["elements"]["gradients"] > 1_000
    assert fact["subnormal"] == dict.fromkeys(fact["subnormal"], 0)
    assert [sample[1:] for sample in fact["samples"]] == [[0, 0, 0, 0]]
    assert fact["worst"] is None


def test_faded_weights_are_counted_and_tried():
    model = network()
    model[0].weight.data.mul_(TINY)
    fact, _, _ = look_at(model, optimizer=lambda parameters: torch.optim.SGD(parameters, lr=0.0))

    assert fact["subnormal"]["parameters"] > 1_000
    assert fact["worst"] == "parameters: 0.weight"
    step_ns, plain_ns, flushed_ns, update_plain_ns, update_flushed_ns = fact["samples"][0]
    assert 0 < flushed_ns <= plain_ns
    assert 0 < update_flushed_ns <= update_plain_ns
    assert step_ns > 0
    assert fact["complete"]


def test_a_state_that_is_no_module_is_seen_in_the_graph():
    model = network()
    faded = torch.full((32, 64), TINY)
    fact, _, _ = look_at(model, run=lambda rows: model(rows + faded) * (faded[:, :1] * 3))

    assert fact["subnormal"]["operands"] > 0
    assert fact["subnormal"]["parameters"] == 0


def test_small_second_moments_are_found_in_the_optimizer():
    model = network()
    fact, _, _ = look_at(model, run=lambda rows: model(rows) * 1e-10, optimizer=torch.optim.RMSprop)

    assert fact["worst"] == "optimizer state: square_avg"
    assert fact["samples"][0][3] > 0


def test_of_many_operators_and_states_all_kinds_are_drawn():
    """Every n-th of layers that repeat would be one and the same tensor of each."""
    layers = [torch.nn.Linear(64, 64) for _ in range(200)]
    for layer in layers:
        layer.bias.data.mul_(TINY)
    fact, _, _ = look_at(
        torch.nn.Sequential(*layers),
        optimizer=lambda parameters: torch.optim.Adam(parameters, lr=0),
    )

    assert 0 < fact["subnormal"]["parameters"] < fact["elements"]["parameters"]
    assert fact["elements"]["optimizer state"] > 1_000
    operators, count = saved_operators(torch, torch.nn.Sequential(*layers)(torch.ones(2, 64)), 64)
    assert len(operators) == 64
    assert count == pytest.approx(200 / 64)


def test_losses_and_random_numbers_stay_the_same():
    def run(look):
        model = network()
        model[0].weight.data.mul_(TINY)
        return look_at(model, look=look, steps=4)[1], torch.rand(1).item()

    assert run(look=True) == run(look=False)


def test_nothing_is_computed_again_for_it():
    """Reading what a checkpoint has left out would compute it."""
    calls = []
    model = network()

    def first(rows):
        calls.append(1)
        return model[0](rows)

    def run(rows):
        return model[2](model[1](checkpoint(first, rows, use_reentrant=False)))

    model[0].weight.data.mul_(TINY)
    look_at(model, run=run, steps=3)

    assert len(calls) == 2 * 3


def test_the_switch_that_is_on_stays_on():
    torch.set_flush_denormal(True)
    try:
        fact, _, _ = look_at(network())
        assert sys.float_info.min / 2 == 0.0
    finally:
        torch.set_flush_denormal(False)
    assert fact["flushed"]
    assert fact["samples"] == []


def test_the_switch_is_off_again_after_an_error():
    trial = FlushTrial(torch)

    def fails_when_flushed():
        if sys.float_info.min / 2 == 0.0:
            raise RuntimeError("odd")

    with pytest.raises(RuntimeError, match="odd"):
        trial._time((fails_when_flushed, (), 1.0), 1)
    assert sys.float_info.min / 2 > 0.0


def test_the_steps_that_a_look_lengthens_are_told():
    _, _, denormals = look_at(network())

    events = denormals.take_events()
    assert {event.kind for event in events} == {"denormals"}
    assert all(event.duration_ns > 0 for event in events)


def test_under_a_profiler_nothing_is_looked_at():
    with torch.autograd.profiler.profile():
        fact, _, _ = look_at(network())

    assert fact is None


@pytest.mark.parametrize(
    ("make", "name"),
    [
        (lambda x: torch.nn.functional.linear(x, torch.ones(4, 8) * TINY), "AddmmBackward0"),
        (lambda x: x @ (torch.ones(8, 4) * TINY), "MmBackward0"),
        (lambda x: x[None] @ (torch.ones(1, 8, 4) * TINY), "BmmBackward0"),
        (lambda x: torch.conv1d(x[:, None], torch.ones(2, 1, 3) * TINY), "ConvolutionBackward0"),
        (lambda x: torch.tanh(x * TINY), "TanhBackward0"),
        (lambda x: (x * TINY).exp().log(), "LogBackward0"),
    ],
)
def test_every_kind_of_operator_can_be_tried(make, name):
    x = torch.ones(6, 8, requires_grad=True)
    operators = {one.name: one for one in operators_of(make(x).sum())}
    trial = FlushTrial(torch)
    if name == "AddmmBackward0":  # without a bias it is a plain product
        operators["AddmmBackward0"] = operators.pop("MmBackward0", operators.get("AddmmBackward0"))

    trial.run(operators[name])

    assert trial.plain_ns > 0
    assert trial.flushed_ns > 0


def test_a_product_without_saved_weights_takes_them_from_the_leaf():
    layer = torch.nn.Linear(8, 4)
    operator = next(
        one for one in operators_of(layer(torch.ones(6, 8)).sum()) if one.name == "AddmmBackward0"
    )
    assert torch.equal(operator.tensors["mat2"], layer.weight.t())
    function, inputs, scale = FlushTrial(torch)._product(operator)

    assert function(*inputs).shape == (6, 4)
    assert scale == 1.0


@pytest.mark.parametrize("bias", [True, False])
def test_a_parameter_whose_memory_was_given_back_is_passed_over(bias):
    """As sharded data parallelism does between forward and backward."""
    layer = torch.nn.Linear(4, 3, bias=bias)
    loss = layer(torch.ones(2, 4)).sum()
    layer.weight.data.untyped_storage().resize_(0)

    operators, _ = saved_operators(torch, loss, 10)

    assert all("mat2" not in one.tensors for one in operators)


def test_of_a_large_operator_some_rows_are_tried():
    x = torch.ones(512, 256, requires_grad=True)
    weight = torch.ones(256, 256, requires_grad=True)
    operator = next(iter(operators_of((x @ weight).sum())))
    function, inputs, scale = FlushTrial(torch)._product(operator)

    assert function(*inputs).shape[0] * scale == pytest.approx(512)
    assert scale > 10


def test_what_was_changed_in_place_is_passed_over():
    x = torch.ones(4, requires_grad=True)
    held = x * 2
    outputs = held.exp().sum() + (held * held).sum()
    held.detach().mul_(TINY)

    assert all(len(one.tensors) <= 2 for one in operators_of(outputs))
