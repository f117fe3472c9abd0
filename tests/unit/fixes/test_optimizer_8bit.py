"""Optimizers whose state takes 8 bits a number, by libraries that are made up here."""

from __future__ import annotations

import copy
import pickle
import sys
from types import ModuleType

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

OPERATOR = "optimizer_update_8bit_blockwise"


class Rounded(torch.optim.Optimizer):
    """As bitsandbytes builds its classes: settings by the base, a state in bytes, `state1`."""

    fails = None

    def __init__(self, params, lr=1e-3, betas=(0.9, 0.999), eps=1e-8, weight_decay=0.0):
        super().__init__(params, {"lr": lr, "betas": betas, "eps": eps, "alpha": 0.0})

    def __setstate__(self, state):
        super().__setstate__(state)

    @torch.no_grad()
    def step(self, closure=None):
        assert closure is None
        for group in self.param_groups:
            for one in group["params"]:
                if one.grad is None:
                    continue
                state = self.state[one]
                if not state:
                    kind = torch.uint8 if one.numel() >= 4096 else torch.float32
                    state |= {"step": 0, "state1": torch.zeros_like(one, dtype=kind)}
                if self.fails and one.numel() == self.fails:
                    raise RuntimeError("no kernel for this\nnor a second line")
                state["step"] += 1
                one.sub_(one.grad, alpha=group["lr"] * group["betas"][0])


class AdamW8bit(Rounded):
    pass


class Adam8bit(Rounded):
    pass


class SGD8bit(Rounded):
    def __init__(self, params, lr=1e-3, momentum=0.0, weight_decay=0.0):
        super().__init__(params, lr, (momentum, 0.0), 0.0, weight_decay)


class AoAdam8bit(Rounded):
    """As torchao's: the rate is a tensor."""

    def add_param_group(self, param_group):
        super().add_param_group(param_group)
        self.param_groups[-1]["lr"] = torch.tensor(float(self.param_groups[-1]["lr"]))

    @torch.no_grad()
    def step(self, closure=None):
        assert all(isinstance(group["lr"], torch.Tensor) for group in self.param_groups)
        super().step(closure)


def library(monkeypatch, name, **members):
    """Puts a module in place, with its package."""
    package, _, _ = name.partition(".")
    for path in (package, name):
        made = ModuleType(path)
        made.__spec__ = sys.__spec__
        made.__path__ = []
        vars(made).update(members)
        monkeypatch.setitem(sys.modules, path, made)


@pytest.fixture
def bitsandbytes(monkeypatch):
    """A bitsandbytes with an update for the CPU."""
    library(
        monkeypatch, "bitsandbytes.optim", AdamW8bit=AdamW8bit, Adam8bit=Adam8bit, SGD8bit=SGD8bit
    )
    operators = torch.library.Library("bitsandbytes", "FRAGMENT")
    operators.define(f"{OPERATOR}(Tensor x) -> Tensor")
    operators.impl(OPERATOR, lambda x: x, "CPU")
    yield
    operators._destroy()


@pytest.fixture
def torchao(monkeypatch):
    library(monkeypatch, "torchao.optim", Adam8bit=AoAdam8bit, AdamW8bit=AoAdam8bit)


def model():
    torch.manual_seed(0)
    return nn.Sequential(nn.Linear(64, 64), nn.ReLU(), nn.Linear(64, 2))


def train(optimizer, net, steps=3, **step):
    for _ in range(steps):
        optimizer.zero_grad()
        net(torch.randn(4, 64)).square().mean().backward()
        optimizer.step(**step)
    return [one.detach().clone() for one in net.parameters()]


@pytest.mark.parametrize(
    ("kind", "settings", "taken"),
    [
        ("AdamW", {}, AdamW8bit),
        ("Adam", {}, Adam8bit),
        ("SGD", {"momentum": 0.5, "weight_decay": 0.1}, SGD8bit),
    ],
)
def test_the_optimizer_is_exchanged(apply, bitsandbytes, kind, settings, taken):
    applied = apply("optimizer-8bit")
    net = model()
    optimizer = getattr(torch.optim, kind)(net.parameters(), lr=0.01, **settings)
    assert applied.read()[::2] == (None, "there was no update yet")
    assert isinstance(optimizer, taken)
    assert isinstance(optimizer, getattr(torch.optim, kind))
    assert type(optimizer).__name__ == taken.__name__
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, max_lr=0.1, total_steps=9)
    train(optimizer, net)
    schedule.step()
    assert isinstance(optimizer.param_groups[0]["lr"], float)
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert seen == {
        "library": "bitsandbytes",
        "kind": taken.__name__,
        "numbers": 64 * 64 + 64 + 130,
        "in_8_bits": 64 * 64,
    }
    optimizer.load_state_dict(optimizer.state_dict())
    assert applied.read()[0] is True


def test_momentum_that_a_schedule_moves_is_taken(apply, bitsandbytes):
    apply("optimizer-8bit")
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    optimizer.param_groups[0]["momentum"] = 0.0
    before = [one.detach().clone() for one in net.parameters()]
    after = train(optimizer, net, 1)  # the library that is made up steps by the momentum
    assert all(torch.equal(one, other) for one, other in zip(before, after, strict=True))


def test_torchao_where_there_is_no_bitsandbytes(apply, torchao):
    applied = apply("optimizer-8bit")
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    losses = []

    def closure():
        losses.append(net(torch.randn(4, 64)).square().mean())
        losses[-1].backward()
        return losses[-1]

    assert optimizer.step(closure) is losses[0]
    optimizer.param_groups[0]["lr"] = 0.001  # as schedules written by hand do
    train(optimizer, net)
    assert optimizer.param_groups[0]["lr"] == 0.001
    assert applied.read()[1]["library"] == "torchao"
    assert len(losses) == 1


def test_hooks_are_called_once(apply, bitsandbytes):
    AdamW8bit(model().parameters())  # torch has wrapped its step by now
    apply("optimizer-8bit")
    net = model()
    optimizer = torch.optim.AdamW(net.parameters())
    calls = []
    optimizer.register_step_post_hook(lambda *_: calls.append("after"))
    train(optimizer, net, 2)
    assert calls == ["after", "after"]


def test_copies_and_pickles_go_on(apply, bitsandbytes):
    apply("optimizer-8bit")
    net = model()
    optimizer = torch.optim.SGD(net.parameters(), lr=0.01, momentum=0.5)
    torch.optim.lr_scheduler.StepLR(optimizer, 5)
    train(optimizer, net)
    pair = copy.deepcopy([net, optimizer])
    train(pair[1], pair[0])
    assert type(pair[1]) is type(optimizer)
    assert pair[1].state[pair[0][0].weight]["step"] == 6
    assert optimizer.state[net[0].weight]["step"] == 3
    read = pickle.loads(pickle.dumps(optimizer))
    assert type(read) is SGD8bit
    assert [state["step"] for state in read.state.values()] == [3] * 4


@pytest.mark.parametrize("failing", [64 * 64, 128])  # the first tensor, and a later one
@pytest.mark.parametrize("scheduled", [False, True])
def test_a_first_update_that_fails_is_torchs_own(
    apply, bitsandbytes, monkeypatch, failing, scheduled
):
    monkeypatch.setattr(AdamW8bit, "fails", failing)
    applied = apply("optimizer-8bit")
    net = model()
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    if scheduled:
        torch.optim.lr_scheduler.StepLR(optimizer, 5)
    train(optimizer, net)
    assert type(optimizer) is torch.optim.AdamW
    assert set(optimizer.state[net[2].weight]) == {"step", "exp_avg", "exp_avg_sq"}
    assert optimizer.state[net[2].weight]["step"] == 3
    active, _, reason = applied.read()
    assert active is False
    assert reason == "its first update in 8 bits fails: no kernel for this"


def test_a_checkpoint_of_torchs_own_ends_it(apply, bitsandbytes):
    net = model()
    own = torch.optim.AdamW(net.parameters(), lr=0.01)
    train(own, net)
    applied = apply("optimizer-8bit")
    optimizer = torch.optim.AdamW(net.parameters(), lr=0.01)
    optimizer.load_state_dict(own.state_dict())
    train(optimizer, net, 1)
    assert type(optimizer) is torch.optim.AdamW
    assert optimizer.state[net[0].weight]["step"] == 4
    assert applied.read()[::2] == (False, "the script loads a state with all its bits")


def test_a_library_that_fails_leaves_all_as_it_was(apply, bitsandbytes, monkeypatch):
    def fails(self, *args, **kwargs):
        self.half = "done"
        raise RuntimeError("CUDA setup failed")

    monkeypatch.setattr(AdamW8bit, "__init__", fails)
    plain = train(torch.optim.AdamW((net := model()).parameters()), net)
    applied = apply("optimizer-8bit")
    net = model()
    optimizer = torch.optim.AdamW(net.parameters())
    assert not hasattr(optimizer, "half")
    assert type(optimizer) is torch.optim.AdamW
    assert all(map(torch.equal, train(optimizer, net), plain))
    assert applied.read()[2] == "not here, because bitsandbytes says: CUDA setup failed"


class Own(torch.optim.AdamW):
    pass


def made(kind, kinds=None, **settings):
    def make():
        net = model()
        return getattr(torch.optim, kind)(kinds(net) if kinds else net.parameters(), **settings)

    return make


@pytest.mark.parametrize(
    ("make", "reason"),
    [
        (made("RMSprop"), "RMSprop is none of torch's Adam, AdamW and SGD"),
        (lambda: Own(model().parameters()), "Own is none of torch's Adam, AdamW and SGD"),
        (made("AdamW", amsgrad=True), "AdamW with amsgrad has no 8-bit form"),
        (made("AdamW", maximize=True), "AdamW with maximize has no 8-bit form"),
        (made("AdamW", capturable=True), "AdamW with capturable has no 8-bit form"),
        (made("AdamW", differentiable=True), "AdamW with differentiable has no 8-bit form"),
        (made("Adam", fused=True), "Adam with fused has no 8-bit form"),
        (made("Adam", foreach=True), "Adam with foreach has no 8-bit form"),
        (made("AdamW", lr=torch.tensor(0.1)), "the learning rate is a tensor"),
        (made("SGD", lr=0.1), "SGD without momentum has no state"),
        (
            made("SGD", lr=0.1, momentum=0.9, dampening=0.1),
            "SGD with dampening has no 8-bit form",
        ),
        (
            made("SGD", lr=0.1, momentum=0.9, nesterov=True),
            "SGD with nesterov has no 8-bit form",
        ),
        (
            made("Adam", lambda net: net.double().parameters()),
            "a parameter is of type float64",
        ),
        (
            made("Adam", lambda net: net[2].parameters()),
            "no tensor has 4,096 numbers; smaller ones keep their state in full",
        ),
        (
            made("Adam", weight_decay=0.1),
            "not here, because bitsandbytes decays Adam's weights as AdamW does",
        ),
        (
            made("Adam", lambda net: net.to("meta").parameters()),
            "not here, because this bitsandbytes has no 8-bit update for the device meta",
        ),
    ],
)
def test_what_is_refused(apply, bitsandbytes, make, reason):
    applied = apply("optimizer-8bit")
    assert type(make()).__module__.startswith(("torch.optim.", __name__))
    assert applied.read()[::2] == (False, reason)


def test_torchao_has_no_sgd(apply, torchao):
    applied = apply("optimizer-8bit")
    torch.optim.SGD(model().parameters(), lr=0.1, momentum=0.9)
    assert applied.read()[2] == "not here, because torchao has no SGD in 8 bits"


def test_a_script_whose_environment_has_neither(apply, run_script):
    applied = apply("optimizer-8bit")
    printed = run_script(
        """
        from torch.optim import AdamW
        model = nn.Linear(64, 64)
        optimizer = AdamW(model.parameters())
        for _ in range(2):
            optimizer.zero_grad()
            model(torch.randn(2, 64)).sum().backward()
            optimizer.step()
        print(type(optimizer).__name__)
        """
    )
    assert printed == ["AdamW"]
    reason = "not here, because neither bitsandbytes nor torchao is installed"
    assert applied.read()[::2] == (False, reason)


def test_sparse_gradients_are_torchs_own(apply, bitsandbytes):
    applied = apply("optimizer-8bit")
    table = nn.Embedding(4096, 2, sparse=True)
    optimizer = torch.optim.SGD(table.parameters(), lr=0.1, momentum=0.9)
    table(torch.tensor([1])).sum().backward()
    optimizer.step()
    assert applied.read()[2] == "its first update in 8 bits fails: a gradient is sparse"


def test_operators_that_torch_does_not_know_are_of_cuda():
    from trainprof.rules.fixes.registration import has_kernel

    assert has_kernel(torch, "bitsandbytes::of_an_old_version", "cuda") is True
    assert has_kernel(torch, "bitsandbytes::of_an_old_version", "cpu") is False
    assert has_kernel(torch, "aten::add.Tensor", "abacus") is False
