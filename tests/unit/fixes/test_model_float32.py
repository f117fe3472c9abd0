"""Models in double precision compute in float32, from the same random numbers."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402


@pytest.fixture(autouse=True)
def _default_dtype():
    yield
    torch.set_default_dtype(torch.float32)


class Net(nn.Module):
    """Remembers what it computes in; `extra` is done to the hidden values."""

    def __init__(self, extra=None):
        super().__init__()
        self.body, self.norm, self.head = nn.Linear(4, 16), nn.BatchNorm1d(16), nn.Linear(16, 1)
        self.scale = torch.ones(16)  # neither parameter nor buffer
        self.extra = extra
        self.seen = []

    def forward(self, x):
        hidden = self.norm(self.body(x)).tanh() * self.scale + torch.zeros(16)
        self.seen.append(hidden.dtype)
        return self.head(self.extra(hidden) if self.extra else hidden)


def train(make, steps=20, wrap=lambda x: x):
    torch.manual_seed(0)
    model = make()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        x = torch.randn(32, 4, dtype=torch.float64)
        loss = (model(wrap(x)).squeeze(1) - x.sum(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


def by_default(extra=None):
    def make():
        torch.set_default_dtype(torch.float64)
        return Net(extra)

    return make


def by_double(extra=None):
    def make():
        model = Net(extra)
        model.scale = model.scale.double()
        torch.set_default_dtype(torch.float64)
        return model.double()

    return make


def dtypes(model):
    return {parameter.dtype for parameter in model.parameters()}


@pytest.mark.parametrize("make", [by_default(), by_double()], ids=["default dtype", "double()"])
def test_it_computes_in_float32_and_learns_alike(apply, make):
    plain, model = train(make)
    assert set(model.seen) == {torch.float64}
    torch.set_default_dtype(torch.float32)
    applied = apply("model-float32", {"dtype": "float32"})
    losses, model = train(make)
    assert set(model.seen) == {torch.float32}
    assert dtypes(model) == {torch.float32}
    assert losses == pytest.approx(plain, rel=1e-4)
    assert losses != plain
    assert applied.read() == (
        True,
        {"inputs": ["float32"], "outputs": ["float32"], "parameters": ["float32"]},
        None,
    )


def test_what_the_script_makes_stays_double(apply):
    apply("model-float32")
    _, model = train(by_default(), steps=1)
    assert model(torch.ones(2, 4)).dtype is torch.float64
    assert torch.get_default_dtype() is torch.float64
    assert torch.ones(1).dtype is torch.float64


def test_a_validation_may_come_first(apply):
    applied = apply("model-float32")
    torch.set_default_dtype(torch.float64)
    model = Net().eval()
    with torch.inference_mode():
        model(torch.ones(2, 4))
    model.train()(torch.ones(2, 4)).sum().backward()
    assert model.body.weight.grad.dtype is torch.float32
    assert applied.read()[0] is True


def test_turning_it_to_double_again_is_turned_away(apply):
    applied = apply("model-float32")
    _, model = train(by_default(), steps=1)
    model.double()
    model.to(torch.float64)
    model.to("cpu", torch.float64)
    model.to(dtype=torch.float64)
    model.to(torch.ones(1, dtype=torch.float64))
    model.type(torch.float64)
    assert dtypes(model) == {torch.float32}
    model.to(torch.bfloat16)
    assert dtypes(model) == {torch.bfloat16}
    assert applied.read()[1]["parameters"] == ["bfloat16"]


class OpaqueNet(Net):
    def forward(self, holder):
        return super().forward(holder.get())


class Holder:
    def __init__(self, x):
        self._x = x

    def get(self):
        return self._x


@pytest.mark.parametrize(
    ("make", "wrap", "reason"),
    [
        (
            by_default(lambda hidden: hidden.double() @ torch.eye(16, dtype=torch.float64)),
            lambda x: x,
            "its forward fails in float32: ",
        ),
        (
            lambda: (torch.set_default_dtype(torch.float64), OpaqueNet())[1],
            Holder,
            "its inputs are a Holder, which cannot be looked into",
        ),
    ],
    ids=["fails", "opaque"],
)
def test_what_does_not_suit_is_left_as_it_was(apply, make, wrap, reason):
    plain, _ = train(make, wrap=wrap)
    torch.set_default_dtype(torch.float32)
    applied = apply("model-float32")
    losses, model = train(make, wrap=wrap)
    assert losses == plain
    assert dtypes(model) == {torch.float64}
    assert applied.read()[0] is False
    assert applied.read()[2].startswith(reason)


def test_an_optimizer_under_way_is_not_disturbed(apply):
    applied = apply("model-float32")
    torch.set_default_dtype(torch.float64)
    model = Net()
    optimizer = torch.optim.Adam(model.parameters())
    for parameter in model.parameters():
        parameter.grad = torch.zeros_like(parameter)
    optimizer.step()
    model(torch.ones(2, 4))
    assert dtypes(model) == {torch.float64}
    assert applied.read()[2] == "its optimizer is already under way in float64"


def test_a_model_in_float32_needs_nothing(apply):
    applied = apply("model-float32")
    assert applied.read()[0] is None
    Net()(torch.ones(2, 4))
    assert applied.read()[::2] == (False, "no module that is called has float64 parameters")


def test_another_type_is_not_known(apply):
    from trainprof.rules.fixes.model_float32 import ModelFloat32

    with pytest.raises(ValueError, match="not 'float32'"):
        ModelFloat32({"dtype": "float16"})
