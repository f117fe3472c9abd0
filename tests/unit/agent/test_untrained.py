"""Parameters that no optimizer moves, and how long a backward works for them."""

from __future__ import annotations

import statistics

import pytest

torch = pytest.importorskip("torch")

from trainprof.profiler.agent import guard  # noqa: E402
from trainprof.profiler.agent.backward_watch import BackwardWatch  # noqa: E402
from trainprof.profiler.agent.recorder import Recorder  # noqa: E402
from trainprof.profiler.agent.untrained import UntrainedParameters  # noqa: E402


class Tuning:
    """An encoder below a head, of which the optimizer holds some parameters."""

    def __init__(self, trained="head", lr=0.1):
        torch.manual_seed(0)
        self.model = torch.nn.Sequential()
        self.model.add_module("encoder", torch.nn.Linear(4, 8))
        self.model.add_module("head", torch.nn.Linear(8, 2))
        parameters = getattr(self.model, trained).parameters()
        self.optimizer = torch.optim.SGD(parameters, lr=lr)
        self.recorder = Recorder()
        self.recorder.follow_thread()
        self.backwards = BackwardWatch(torch, self.recorder)
        self.untrained = UntrainedParameters(torch, self.recorder, self.backwards)

    def look(self):
        return self.untrained.look([self.model], [self.optimizer])

    def train(self, steps=1):
        for _ in range(steps):
            self.optimizer.zero_grad()
            self.model(torch.ones(3, 4)).square().sum().backward()
            self.optimizer.step()
            self.recorder.updates += 1


@pytest.fixture(autouse=True)
def nothing_is_left():
    from torch._dynamo.utils import counters

    counters.clear()
    guard.reset()
    engine = torch.autograd._engine_run_backward
    yield
    assert torch.autograd._engine_run_backward is engine
    assert guard.failures == []


def test_names_the_outermost_modules_that_nothing_trains():
    tuning = Tuning()

    fact = tuning.look()
    tuning.train()
    tuning.backwards.stop()

    assert fact["modules"] == ["encoder"]
    assert (fact["parameters"], fact["trainable"], fact["tensors"]) == (40, 58, 2)
    assert fact["changed"] is None


def test_says_nothing_where_all_is_trained_or_frozen():
    tuning = Tuning()
    tuning.model.encoder.requires_grad_(False)
    assert tuning.look() is None
    tuning = Tuning()
    tuning.optimizer.add_param_group({"params": list(tuning.model.encoder.parameters())})
    assert tuning.look() is None


def test_says_nothing_without_an_optimizer():
    tuning = Tuning()
    assert tuning.untrained.look([tuning.model], []) is None


def test_a_learning_rate_of_zero_moves_nothing():
    tuning = Tuning()
    tuning.optimizer.add_param_group({"params": list(tuning.model.encoder.parameters()), "lr": 0.0})

    assert tuning.look()["modules"] == ["encoder"]
    tuning.backwards.stop()


def test_values_that_stay_and_values_that_change():
    tuning = Tuning()
    for _ in range(3):
        fact = tuning.look()
        tuning.train(8)
    assert fact["changed"] is False
    assert fact["updates_compared"] == 16
    tuning.model.encoder.weight.data.add_(0.01)  # an update by hand, which torch does not notice

    assert tuning.look()["changed"] is True


def test_times_the_backward_after_the_last_useful_gradient():
    tuning = Tuning()
    for _ in range(3):
        tuning.look()
        tuning.train(8)

    samples = tuning.look()["backward_samples"]
    tuning.backwards.stop()

    assert len(samples) == 3 * 4 - 1  # the first finds out which gradient comes last
    assert all(0 < useless < whole for whole, useless in samples)


def test_layers_above_a_trained_one_pass_its_gradient_on():
    """The encoder is trained, the head is not: the backward through the head is of use."""
    tuning = Tuning(trained="encoder")
    for _ in range(3):
        tuning.look()
        tuning.train(8)

    samples = tuning.look()["backward_samples"]
    tuning.backwards.stop()

    assert statistics.median(useless / whole for whole, useless in samples) < 0.5


def test_leaves_parameters_and_engine_as_they_were():
    tuning = Tuning()
    engine = torch.autograd._engine_run_backward

    tuning.look()
    assert torch.autograd._engine_run_backward is not engine
    tuning.train(4)

    assert torch.autograd._engine_run_backward is engine
    assert all(p._post_accumulate_grad_hooks is None for p in tuning.model.parameters())


def test_gradients_and_updates_are_the_same_as_without():
    watched, plain = Tuning(), Tuning()
    for _ in range(3):
        watched.look()
        watched.train(2)
        plain.train(2)
    watched.backwards.stop()

    for one, other in zip(watched.model.parameters(), plain.model.parameters(), strict=True):
        assert torch.equal(one, other)
        assert torch.equal(one.grad, other.grad)


def test_the_users_own_gradient_hook_stays():
    tuning = Tuning()
    called = []
    tuning.model.head.bias.register_post_accumulate_grad_hook(called.append)

    tuning.look()
    tuning.train(6)

    assert len(called) == 6


def test_grad_without_accumulation_is_not_a_sample():
    tuning = Tuning()
    for _ in range(4):
        tuning.look()
        loss = tuning.model(torch.ones(3, 4)).sum()
        torch.autograd.grad(loss, list(tuning.model.parameters()))

    assert tuning.look()["backward_samples"] == []
    tuning.backwards.stop()
