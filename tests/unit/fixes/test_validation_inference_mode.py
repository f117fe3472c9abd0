"""Validation does without a graph, once it is known that nobody wants its gradients."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


class Net(nn.Module):
    """Remembers whether a graph was recorded in evaluation mode."""

    def __init__(self):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 2)
        self.graphs = []

    def forward(self, x):
        if not self.training:
            self.graphs.append(torch.is_grad_enabled())
        return self.head(self.norm(self.body(x)).relu())


HELD_OUT = torch.randn(64, 4, generator=torch.Generator().manual_seed(9))


def evaluate(model):
    model.eval()
    right = []
    for rows in HELD_OUT.split(16):
        right.append((model(rows).argmax(1) == rows[:, 0].gt(0)).float().mean())  # noqa: PERF401
    model.train()
    return torch.stack(right).mean().item()


def train(evaluation=evaluate, steps=20, every=5, in_eval_mode=False):
    torch.manual_seed(0)
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    record = []
    for step in range(steps):
        model.train(not in_eval_mode)
        x = torch.randn(16, 4)
        loss = nn.functional.cross_entropy(model(x), x[:, 0].gt(0).long())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        record.append(loss.item())
        if step % every == every - 1:
            record.append(evaluation(model))
    return record, model


def test_the_first_pass_is_watched_and_the_others_have_no_graph(apply):
    plain, _ = train()
    applied = apply("validation-inference-mode")
    record, model = train()
    assert record == plain
    assert model.graphs == [True] * 4 + [False] * 12
    assert applied.read() == (True, {"without_graph": 12, "watched": 4}, None)


def adversarial(model):
    model.eval()
    rows = HELD_OUT.clone().requires_grad_(True)
    (gradient,) = torch.autograd.grad(model(rows).sum(), rows)
    model.train()
    return gradient.sum().item()


def weights_asked(model):
    model.eval()
    (gradient,) = torch.autograd.grad(model(HELD_OUT).sum(), [model.head.weight])
    model.train()
    return gradient.sum().item()


def outputs_asked(model):
    model.eval()
    out = model(HELD_OUT)
    (gradient,) = torch.autograd.grad(out.square().sum(), [out])
    model.train()
    return gradient.sum().item()


@pytest.mark.parametrize(
    ("evaluation", "reason"),
    [
        (adversarial, "its inputs require a gradient"),
        (weights_asked, "gradients flow through a module in evaluation mode"),
        (outputs_asked, "gradients flow through a module in evaluation mode"),
    ],
)
def test_gradients_that_are_wanted_go_on(apply, evaluation, reason):
    plain, _ = train(evaluation)
    applied = apply("validation-inference-mode")
    record, _ = train(evaluation)
    assert record == plain
    assert applied.read()[::2] == (False, reason)


def test_training_in_evaluation_mode_is_no_validation(apply):
    plain, _ = train(in_eval_mode=True)
    applied = apply("validation-inference-mode")
    record, model = train(in_eval_mode=True)
    assert record == plain
    assert set(model.graphs) == {True}
    assert applied.read()[2] == "gradients flow through a module in evaluation mode"


class Box:
    def __init__(self, inner):
        self.inner = inner


def test_outputs_that_cannot_be_looked_into(apply):
    applied = apply("validation-inference-mode")
    model = Net().eval()
    model.register_forward_hook(lambda module, args, out: Box(out))
    model(HELD_OUT)
    assert applied.read()[2] == "a module gives a Box, which cannot be looked into"


def test_outputs_that_are_kept_may_be_wanted_yet(apply):
    kept = []

    def keep(model):
        model.eval()
        kept.append(model(HELD_OUT))
        model.train()
        return 0.0

    applied = apply("validation-inference-mode")
    _, model = train(keep)
    assert model.graphs == [True] * 4
    assert applied.read()[0] is None


def test_a_validation_without_graph_needs_nothing(apply):
    applied = apply("validation-inference-mode")
    train(torch.no_grad()(evaluate))
    assert applied.read() == (
        None,
        {"without_graph": 0, "watched": 0},
        "no module was called in evaluation mode with a graph yet",
    )
