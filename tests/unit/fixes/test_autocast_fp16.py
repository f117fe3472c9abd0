"""float16 with a scaled loss. No GPU here: the CPU stands in for one that has no bfloat16."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn.utils import clip_grad_norm_  # noqa: E402

from trainprof.rules.fixes.autocast_fp16 import FIRST_SCALE, AutocastFp16  # noqa: E402


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 32), nn.Linear(32, 1)
        self.seen = []

    def forward(self, x):
        hidden = self.body(x)
        self.seen.append(hidden.dtype)
        return self.head(hidden.tanh()).squeeze(1)


@pytest.fixture
def applied(apply, monkeypatch):
    monkeypatch.setattr(AutocastFp16, "refused_devices", ())
    return apply("autocast-fp16")


def train(steps=12, parts=1, clip=None, large_at=(), kind=Net):
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.AdamW(model.parameters(), lr=1e-2)
    losses, norms = [], []
    for step in range(steps):
        optimizer.zero_grad()
        for _ in range(parts):
            x = torch.randn(32, 4)
            factor = 1e38 if step in large_at else 1.0
            loss = (model(x) - x.sum(1)).square().mean() / 8 / parts
            (loss * factor).backward()
        if clip is not None:
            norms.append(clip_grad_norm_(model.parameters(), clip).item())
        optimizer.step()
        losses.append(loss.item())
    return losses, norms, model, optimizer


@pytest.mark.parametrize("parts", [1, 3])
def test_gradients_are_the_true_ones(apply, monkeypatch, parts):
    plain, norms, _, _ = train(parts=parts, clip=0.5)
    monkeypatch.setattr(AutocastFp16, "refused_devices", ())
    applied = apply("autocast-fp16")
    losses, new_norms, model, _ = train(parts=parts, clip=0.5)
    assert set(model.seen) == {torch.float16}
    assert losses == pytest.approx(plain, rel=0.01)
    assert new_norms == pytest.approx(norms, rel=0.01)
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert (seen["dtype"], seen["updates"], seen["left_out"]) == ("float16", 12, 0)


def test_small_gradients_do_not_vanish(applied):
    """Without the scale they would be 0 in float16."""
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    (model(torch.ones(2, 4)).sum() * 1e-8).backward()
    assert 0.0 < model.body.weight.grad.abs().max() < 1e-6
    optimizer.step()


def test_an_update_that_overflows_is_left_out(applied):
    _, _, model, optimizer = train(steps=3, large_at=(1,))
    assert all(torch.isfinite(one).all() for one in model.parameters())
    assert {int(state["step"]) for state in optimizer.state.values()} == {2}
    active, seen, _ = applied.read()
    assert (active, seen["left_out"]) == (True, 1)
    assert {scale.item() for scale in applied.fix._scale.values()} == {FIRST_SCALE / 2}


def test_a_training_of_overflows_only_is_not_in_force(applied):
    train(steps=3, large_at=(0, 1, 2))
    assert applied.read()[::2] == (False, "every update overflowed")


def test_gradients_that_are_asked_for_are_not_scaled(applied):
    model = Net()
    model(torch.ones(2, 4)).sum().backward()
    (gradient,) = torch.autograd.grad(model(torch.ones(2, 4)).sum(), [model.head.bias])
    assert gradient.item() == 2.0


def test_the_cpu_is_refused(apply):
    applied = apply("autocast-fp16")
    losses, _, model, _ = train()
    assert set(model.seen) == {torch.float32}
    assert losses == train()[0]
    assert applied.read()[::2] == (False, "float16 is slower on a cpu")


class Twice(Net):
    def __init__(self):
        super().__init__()
        self.other = torch.optim.SGD(self.head.parameters(), lr=0.1)

    def forward(self, x):
        self.other.step()
        return super().forward(x)


def closure(model, optimizer, x):
    def again():
        optimizer.zero_grad()
        loss = model(x).square().mean()
        loss.backward()
        return loss

    optimizer.step(again)


def test_what_does_not_suit_is_refused(applied):
    train(kind=Twice)
    assert applied.read()[::2] == (False, "several optimizers make updates")


def test_closures_and_inputs_with_gradients_are_refused(apply, monkeypatch):
    monkeypatch.setattr(AutocastFp16, "refused_devices", ())
    applied = apply("autocast-fp16")
    model = Net()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    for _ in range(2):
        closure(model, optimizer, torch.ones(2, 4))
    assert applied.read()[2] == "an optimizer takes a closure"
    other = apply("autocast-fp16")
    model(torch.ones(2, 4, requires_grad=True))
    assert other.read()[2] == "a module takes inputs that need a gradient"


def test_nothing_is_left_behind(applied):
    _, _, model, _ = train(steps=2)
    applied.undo()
    assert not any(one._backward_hooks for one in model.parameters())
