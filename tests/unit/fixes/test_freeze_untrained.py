"""Parameters that no optimizer holds stop getting gradients, unless somebody wants these."""

from __future__ import annotations

import copy
import io

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402


def make():
    torch.manual_seed(0)
    encoder = nn.Sequential(nn.Linear(4, 16), nn.Tanh(), nn.Linear(16, 16), nn.Tanh())
    model = nn.Sequential(encoder, nn.Linear(16, 1))
    return model, torch.optim.Adam(model[1].parameters(), lr=1e-2)


def train(model, optimizer, steps=8, in_step=None, forward=None):
    losses = []
    for step in range(steps):
        x = torch.randn(16, 4, generator=torch.Generator().manual_seed(step))
        loss = ((forward or model)(x) - x.sum(1, keepdim=True)).square().mean()
        model.zero_grad()
        loss.backward()
        if in_step is not None:
            in_step(model, step)
        optimizer.step()
        losses.append(loss.item())
    return losses


def encoder_state(model):
    return [parameter.requires_grad for parameter in model[0].parameters()]


def test_the_encoder_gets_no_gradients_and_the_losses_are_equal(apply):
    before = train(*make())
    applied = apply("freeze-untrained", {"modules": ["0"]})
    model, optimizer = make()
    assert train(model, optimizer) == before
    assert encoder_state(model) == [False] * 4
    assert all(parameter.requires_grad for parameter in model[1].parameters())
    assert applied.read() == (True, {"tensors": 4, "elements": 4 * 16 + 16 + 16 * 16 + 16}, None)
    loss = model(torch.ones(2, 4)).sum()
    loss.backward()
    assert [torch._C.TensorBase.grad.__get__(one) for one in model[0].parameters()] == [None] * 4


def test_a_frozen_model_can_be_saved_and_copied(apply):
    apply("freeze-untrained")
    model, optimizer = make()
    train(model, optimizer)
    buffer = io.BytesIO()
    torch.save(model, buffer)
    buffer.seek(0)
    loaded = torch.load(buffer, weights_only=False)
    assert type(loaded[0][0].weight) is nn.Parameter
    assert torch.equal(copy.deepcopy(model)[0][0].weight, model[0][0].weight)


def test_nothing_is_frozen_before_a_few_steps_were_watched(apply):
    applied = apply("freeze-untrained")
    model, optimizer = make()
    train(model, optimizer, steps=2)
    assert encoder_state(model) == [True] * 4
    assert applied.read()[0] is None


def clip_all(model, step):
    nn.utils.clip_grad_norm_(model.parameters(), 1.0)


def by_hand(model, step):
    with torch.no_grad():
        for parameter in model[0].parameters():
            parameter -= 0.01 * parameter.grad


def late_read(model, step):
    if step == 6:
        assert model[0][0].weight.grad is None


def ask_by_name(model, step):
    torch.autograd.grad(model(torch.ones(1, 4)).sum(), list(model[0].parameters()))


@pytest.mark.parametrize(
    ("in_step", "reason"),
    [
        (clip_all, "reads their gradients at "),
        (by_hand, "reads their gradients at "),
        (late_read, "reads their gradients at "),
        (ask_by_name, "asks for their gradients by name"),
    ],
)
def test_it_is_refused_where_somebody_wants_the_gradients(apply, in_step, reason):
    before = train(*make(), in_step=None if in_step is late_read else in_step)
    applied = apply("freeze-untrained")
    model, optimizer = make()
    assert train(model, optimizer, in_step=in_step) == before
    assert encoder_state(model) == [True] * 4
    active, _, why = applied.read()
    assert active is False
    assert reason in why
    if "reads" in reason:
        assert __file__ in why or "clip_grad" in why


def test_hooks_want_gradients_too(apply):
    applied = apply("freeze-untrained")
    model, optimizer = make()
    seen = []
    model[0][0].weight.register_hook(lambda gradient: seen.append(1))
    train(model, optimizer)
    assert (len(seen), encoder_state(model)) == (8, [True] * 4)
    assert applied.read()[2] == "the script hooks their gradients"


@pytest.mark.parametrize("copied", [False, True])
def test_an_optimizer_that_gets_them_later_trains_them(apply, copied):
    applied = apply("freeze-untrained")
    model, optimizer = make()
    train(model, optimizer)
    if copied:
        model = copy.deepcopy(model)
        optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    else:
        optimizer.add_param_group({"params": model[0].parameters()})
    weight = model[0][0].weight.detach().clone()
    train(model, optimizer, steps=2)
    assert not torch.equal(model[0][0].weight, weight)
    assert (applied.read()[0], applied.read()[2]) == (
        False,
        "an optimizer got frozen parameters later",
    )


def test_a_second_optimizer_holds_the_rest(apply):
    applied = apply("freeze-untrained")
    model, optimizer = make()
    other = torch.optim.SGD(model[0].parameters(), lr=0.1)
    train(model, optimizer, in_step=lambda model, step: other.step())
    assert applied.read()[2] == "an optimizer holds all that gets gradients"


def test_reentrant_checkpointing_needs_an_input_with_a_gradient(apply):
    applied = apply("freeze-untrained")
    model, optimizer = make()

    def forward(x):
        return checkpoint(model[1], model[0](x), use_reentrant=True)

    weight = model[1].weight.detach().clone()
    train(model, optimizer, forward=forward)
    assert not torch.equal(model[1].weight, weight)
    assert "use_reentrant=True" in applied.read()[2]


def test_a_backward_of_nothing_else_would_fail(apply):
    applied = apply("freeze-untrained")
    model, optimizer = make()

    def in_step(model, step):
        model[0](torch.ones(1, 4)).sum().backward()

    train(model, optimizer, in_step=in_step)
    assert "reaches nothing else" in applied.read()[2]
