"""Linear layers in 8 bits: torchao's classes, made up here, and the devices that take them."""

from __future__ import annotations

import sys
from types import ModuleType, SimpleNamespace

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from trainprof.rules.fixes.linear_float8 import LinearFloat8  # noqa: E402
from trainprof.rules.fixes.linear_int8 import LinearInt8  # noqa: E402

FIXES = ("linear-float8", "linear-int8")


class Float8Linear(nn.Linear):
    def forward(self, x):
        return super().forward(x * 1.001)


class Int8Linear(nn.Linear):
    def forward(self, x):
        x.view(-1)  # torchao's raises for what does not lie in one piece
        out = super().forward(x * 1.001)
        if out.requires_grad:
            out.register_hook(lambda gradient: gradient.view(-1).view_as(gradient))
        return out


class Settings:
    def __init__(self, pad_inner_dim):
        assert pad_inner_dim


class Exchanged:
    def __init__(self, module_swap):
        assert module_swap


def convert(holder, config):
    for name, old in list(holder.named_children()):
        new = Float8Linear(old.in_features, old.out_features)
        new.weight, new.bias = old.weight, old.bias
        setattr(holder, name, new)


def quantize(layer, config):
    layer.__class__ = Int8Linear
    layer.config = config


def module(monkeypatch, name, **members):
    made = ModuleType(name)
    made.__spec__, made.__path__ = sys.__spec__, []
    vars(made).update(members)
    monkeypatch.setitem(sys.modules, name, made)


@pytest.fixture
def torchao(monkeypatch):
    """A torchao, and CPUs that multiply in 8 bits."""
    module(monkeypatch, "torchao")
    module(
        monkeypatch,
        "torchao.float8",
        Float8LinearConfig=Settings,
        convert_to_float8_training=convert,
    )
    module(monkeypatch, "torchao.quantization", quantize_=quantize)
    module(monkeypatch, "torchao.prototype")
    module(
        monkeypatch,
        "torchao.prototype.quantized_training",
        int8_mixed_precision_training=Exchanged,
    )
    for kind in (LinearFloat8, LinearInt8):
        monkeypatch.setattr(kind, "_why_not_on", lambda fix, device: None)


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.first, self.norm = nn.Linear(16, 32), nn.BatchNorm1d(32)
        self.blocks = nn.Sequential(nn.Linear(32, 32), nn.ReLU())
        self.last = nn.Linear(32, 3)

    def forward(self, x):
        x = self.norm(self.first(x.t()[:16].t()))  # not in one piece
        return self.last(self.blocks(x.t().flip(0).flip(0).t()))


def train(kind=Net, steps=4):
    torch.manual_seed(0)
    net = kind()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []
    for _ in range(steps):
        loss = net(torch.randn(8, 24)).t().square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, net, optimizer


@pytest.mark.parametrize(("name", "kind"), [(FIXES[0], Float8Linear), (FIXES[1], Int8Linear)])
def test_layers_are_exchanged_and_weights_stay(apply, torchao, name, kind):
    plain, before, _ = train()
    applied = apply(name)
    assert applied.read()[::2] == (None, "no module was called in training yet")
    losses, net, optimizer = train()
    assert losses != plain
    assert losses == pytest.approx(plain, rel=0.05)
    assert isinstance(net.first, kind)
    assert isinstance(net.blocks[0], kind)
    assert type(net.last) is nn.Linear  # three outputs
    assert list(net.state_dict()) == list(before.state_dict())
    held = {id(one) for one in optimizer.param_groups[0]["params"]}
    assert held == {id(one) for one in net.parameters()}
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert seen == {"kind": kind.__name__, "compiled": False, "layers": 2}
    net.first = nn.Linear(16, 32)
    assert applied.read()[::2] == (False, "the script has put other layers in their places")


class Failing(Net):
    def forward(self, x):
        out = super().forward(x)
        if type(self.first) is not nn.Linear:
            raise RuntimeError("no such product\nand more")
        return out


@pytest.mark.parametrize("name", FIXES)
def test_a_forward_that_fails_with_it_is_as_before(apply, torchao, name):
    plain, before, _ = train(Failing)
    applied = apply(name)
    losses, net, _ = train(Failing)
    assert losses == plain
    assert type(net.first) is type(net.blocks[0]) is nn.Linear
    assert torch.equal(net.norm.running_mean, before.norm.running_mean)
    reason = "not here, because its first forward in 8 bits fails: no such product"
    assert applied.read()[::2] == (False, reason)


def hooked():
    layer = nn.Linear(16, 16)
    layer.register_forward_hook(lambda *_: None)
    return nn.Sequential(layer)


@pytest.mark.parametrize("name", FIXES)
@pytest.mark.parametrize(
    "make",
    [
        lambda: nn.Linear(16, 16),  # the root itself has no place to be put into
        lambda: nn.Sequential(nn.Linear(16, 3)),
        lambda: nn.Sequential(nn.Linear(16, 16)).double(),
        lambda: nn.Sequential(nn.utils.parametrizations.weight_norm(nn.Linear(16, 16))),
        hooked,
    ],
)
def test_no_layer_that_can_be_exchanged(apply, torchao, name, make):
    applied = apply(name)
    net = make()
    net(torch.randn(2, 16, dtype=next(net.parameters()).dtype))
    active, _, reason = applied.read()
    assert active is False
    assert reason.startswith("not here, because no linear layer inside the model has dimensions")


@pytest.mark.parametrize("name", FIXES)
def test_a_script_whose_environment_has_no_torchao(apply, run_script, name):
    applied = apply(name)
    printed = run_script(
        """
        model = nn.Sequential(nn.Linear(16, 16))
        model(torch.randn(2, 16)).sum().backward()
        print(type(model[0]).__name__)
        """
    )
    assert printed == ["Linear"]
    assert applied.read()[::2] == (False, "not here, because torchao is not installed")


@pytest.mark.parametrize("name", FIXES)
def test_a_validation_alone_changes_nothing(apply, torchao, name):
    applied = apply(name)
    net = Net().eval()
    net(torch.randn(8, 24))
    assert type(net.first) is nn.Linear
    assert applied.read()[0] is None


def device(capability=None, amd=None):
    """What a fix reads of torch."""
    return SimpleNamespace(
        version=SimpleNamespace(hip="6.2" if amd else None),
        cuda=SimpleNamespace(
            get_device_capability=lambda device: capability,
            get_device_properties=lambda device: SimpleNamespace(gcnArchName=amd),
        ),
    )


@pytest.mark.parametrize(
    ("kind", "torch_there", "where", "reason"),
    [
        (LinearFloat8, device((9, 0)), "cuda", None),
        (LinearFloat8, device((8, 9)), "cuda", None),
        (
            LinearFloat8,
            device((8, 6)),
            "cuda",
            "float8 needs compute capability 8.9, and this device has 8.6",
        ),
        (LinearFloat8, device(amd="gfx942:sramecc+"), "cuda", None),
        (LinearFloat8, device(amd="gfx90a:sramecc+"), "cuda", "gfx90a has no float8"),
        (LinearFloat8, device(), "cpu", "the device cpu has no tensor cores for float8"),
        (LinearInt8, device((8, 0)), "cuda", None),
        (
            LinearInt8,
            device((7, 5)),
            "cuda",
            "it needs compute capability 8.0, and this device has 7.5",
        ),
        (
            LinearInt8,
            device(amd="gfx942"),
            "cuda",
            "AMD's devices have no product of 8-bit integers that torchao trains with",
        ),
        (
            LinearInt8,
            device(),
            "mps",
            "the device mps has no product of 8-bit integers that torchao trains with",
        ),
    ],
)
def test_devices(kind, torch_there, where, reason):
    fix = kind({})
    fix._torch = torch_there
    assert fix._why_not_on(SimpleNamespace(type=where)) == reason
