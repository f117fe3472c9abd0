"""The forward runs under autocast, and the loop sees float32."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.checkpoint import checkpoint  # noqa: E402


class Net(nn.Module):
    """Remembers in what its product came out."""

    def __init__(self):
        super().__init__()
        self.body, self.head = nn.Linear(4, 32), nn.Linear(32, 1)
        self.seen = []

    def forward(self, x):
        hidden = self.body(x)
        self.seen.append(hidden.dtype)
        return {"out": self.head(hidden.tanh()), "name": "net"}


class WithItsOwn(Net):
    def forward(self, x):
        with torch.autocast("cpu", torch.bfloat16):
            return super().forward(x)


class WithoutInside(Net):
    def forward(self, x):
        with torch.autocast("cpu", enabled=False):
            x = x * 2.0
        return super().forward(x / 2.0)


class Checkpointed(Net):
    def forward(self, x):
        return checkpoint(super().forward, x, use_reentrant=False)


def train(kind=Net, steps=20, around=None):
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.Adam(model.parameters(), lr=1e-2)
    losses = []
    for _ in range(steps):
        x = torch.randn(32, 4)
        out = around(model, x) if around else model(x)["out"]
        assert out.dtype is torch.float32
        loss = (out.squeeze(1) - x.sum(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


@pytest.mark.parametrize("kind", [Net, WithoutInside, Checkpointed])
def test_products_are_bfloat16_and_it_learns_alike(apply, kind):
    plain, _ = train(kind)
    applied = apply("autocast-bf16", {"device": "cpu", "dtype": "bfloat16"})
    losses, model = train(kind)
    assert set(model.seen) == {torch.bfloat16}
    assert {parameter.dtype for parameter in model.parameters()} == {torch.float32}
    assert losses == pytest.approx(plain, rel=0.03)
    assert losses != plain
    seen = {"enabled": True, "dtype": "bfloat16", "outputs": ["bfloat16"], "forwards": 20}
    assert applied.read() == (True, seen, None)


def cast_outside(model, x):
    with torch.autocast("cpu", torch.bfloat16):
        return model(x)["out"].float()


def cast_rarely(model, x):
    with torch.cpu.amp.autocast():
        x.matmul(x.T)
    return model(x)["out"].float()


@pytest.mark.parametrize(
    ("kind", "around"), [(Net, cast_outside), (WithItsOwn, None), (Net, cast_rarely)]
)
@pytest.mark.filterwarnings("ignore:.*torch.cpu.amp.autocast")
def test_a_script_that_casts_itself_is_left_alone(apply, kind, around):
    def out(model, x):
        return around(model, x) if around else model(x)["out"].float()

    plain, _ = train(kind, around=out)
    applied = apply("autocast-bf16")
    losses, _ = train(kind, around=out)
    assert applied.read()[::2] == (False, "the script uses autocast itself")
    assert losses[1:] == pytest.approx(plain[1:], rel=0.03)


def test_parameters_that_do_not_suit(apply):
    applied = apply("autocast-bf16")
    Net().double()(torch.ones(1, 4, dtype=torch.float64))
    assert applied.read()[::2] == (False, "some parameters are not float32")


def test_another_device_is_told(apply):
    applied = apply("autocast-bf16", {"device": "cuda"})
    model = Net()
    model(torch.ones(1, 4))
    assert model.seen == [torch.float32]
    assert applied.read()[2] == "the parameters lie on cpu, not on cuda"


def test_nothing_was_called_yet(apply):
    assert apply("autocast-bf16").read()[0] is None


def test_a_loss_is_not_cast(apply):
    apply("autocast-bf16")
    logits = torch.randn(4, 3)
    assert nn.CrossEntropyLoss()(logits, torch.tensor([0, 1, 2, 0])).dtype is torch.float32


def test_the_validation_alone(apply):
    torch.manual_seed(0)
    model = torch.nn.Linear(8, 8)
    x = torch.randn(4, 8)
    plain = model(x)
    applied = apply("validation-autocast", {"dtype": "bfloat16"})
    assert applied.read() == (None, {}, "nothing was validated without gradients yet")
    assert torch.equal(model(x), plain)
    model.eval()
    assert torch.equal(model(x), plain)  # with gradients
    with torch.no_grad():
        found = model(x)
    assert found.dtype == torch.float32
    assert not torch.equal(found, plain)
    assert torch.allclose(found, plain, atol=0.05)
    active, seen, _ = applied.read()
    assert (active, seen["forwards"]) == (True, 1)


def test_a_validation_that_has_its_own_autocast(apply):
    applied = apply("validation-autocast")
    model = torch.nn.Linear(8, 8).eval()
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        model(torch.randn(4, 8))
    assert applied.read()[::2] == (False, "the script uses autocast itself")
