"""Gradients that stay from step to step are noticed, and their zeroing timed."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from trainprof.profiler.agent import guard  # noqa: E402
from trainprof.profiler.agent.backward_watch import BackwardWatch  # noqa: E402
from trainprof.profiler.agent.kept_gradients import KeptGradients  # noqa: E402
from trainprof.profiler.agent.recorder import Recorder  # noqa: E402


@pytest.fixture(autouse=True)
def nothing_is_left():
    guard.reset()
    before = _names()
    yield
    assert _names() == before
    assert guard.failures == []


def _names():
    owners = (torch.optim.Optimizer, torch.nn.Module)
    return [vars(owner)["zero_grad"] for owner in owners] + [torch.autograd._engine_run_backward]


def trained(zero_grad, looks=4, steps=8):
    """What is known after some looks at a training that empties its gradients in this way."""
    recorder = Recorder()
    recorder.follow_thread()
    backwards = BackwardWatch(torch, recorder)
    kept = KeptGradients(torch, recorder, backwards)
    model = torch.nn.Sequential(torch.nn.Linear(3, 3), torch.nn.Linear(3, 1))
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    fact = None
    for _ in range(looks):
        fact = kept.look([optimizer])
        for _ in range(steps):
            zero_grad(model, optimizer)
            model(torch.ones(2, 3)).sum().backward()
            optimizer.step()
            recorder.updates += 1
    backwards.stop()
    kept.stop()
    return fact


@pytest.mark.parametrize(
    "zero_grad",
    [
        lambda model, optimizer: optimizer.zero_grad(set_to_none=False),
        lambda model, optimizer: model.zero_grad(set_to_none=False),
    ],
    ids=["optimizer", "model"],
)
def test_zeroed_gradients_stay_and_are_timed(zero_grad):
    fact = trained(zero_grad)

    assert fact["kept"] is True
    assert fact["samples"]
    assert all(0 < zeroing < whole for whole, zeroing in fact["samples"])


@pytest.mark.parametrize(
    "zero_grad",
    [
        lambda model, optimizer: optimizer.zero_grad(),
        lambda model, optimizer: model.zero_grad(),
    ],
    ids=["optimizer", "model"],
)
def test_dropped_gradients_are_others_in_the_next_step(zero_grad):
    assert trained(zero_grad) is None


def test_looks_inside_one_step_prove_nothing():
    assert trained(lambda model, optimizer: optimizer.zero_grad(), steps=1) is None
