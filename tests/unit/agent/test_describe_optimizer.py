import functools
import json
import sys

import pytest
import torch
from torch import nn, optim

from trainprof.profiler.agent.describe import describe_optimizer

_OWN_DEFAULT_IS_FORLOOP = ("Adafactor", "Muon", "SparseAdam")
_CHOOSING = (
    "SGD",
    "Adam",
    "AdamW",
    "NAdam",
    "RAdam",
    "Adamax",
    "Adadelta",
    "Adagrad",
    "ASGD",
    "RMSprop",
    "Rprop",
)


def _parameters():
    return list(nn.Linear(4, 4).parameters())


@pytest.fixture
def implementation_used(monkeypatch):
    """Which implementations a step really calls: the truth the description is compared with."""

    def run(optimizer, parameters):
        module = sys.modules[type(optimizer).step.__module__]
        family = module.__name__.rpartition(".")[2].lstrip("_")
        called = []
        for kind, prefix in (("forloop", "_single_tensor_"), ("foreach", "_multi_tensor_")):
            _spy(monkeypatch, module, prefix + family, called, kind)
        _spy(monkeypatch, module, f"_fused_{family}", called, "fused")
        for parameter in parameters:
            parameter.grad = torch.ones_like(parameter)
        optimizer.step()
        assert len(set(called)) == 1
        return called[0]

    return run


def _spy(monkeypatch, module, name, called, kind):
    original = getattr(module, name, None)
    if original is None:
        return

    @functools.wraps(original)
    def spy(*args, **kwargs):
        called.append(kind)
        return original(*args, **kwargs)

    monkeypatch.setattr(module, name, spy)


@pytest.mark.parametrize("name", _CHOOSING)
@pytest.mark.parametrize("flags", [{}, {"foreach": True}, {"foreach": False}])
def test_implementation_is_the_one_that_runs(name, flags, implementation_used):
    parameters = _parameters()
    optimizer = getattr(optim, name)(parameters, lr=0.01, **flags)
    expected = implementation_used(optimizer, parameters)
    fact = describe_optimizer(torch, optimizer)
    assert fact["implementation"] == expected
    assert fact["groups"][0]["implementation"] == expected


@pytest.mark.parametrize("name", ["SGD", "Adam", "AdamW", "Adagrad"])
@pytest.mark.parametrize("fused", [True, False])
def test_fused_flag_is_what_runs(name, fused, implementation_used):
    parameters = _parameters()
    optimizer = getattr(optim, name)(parameters, lr=0.01, fused=fused)
    expected = implementation_used(optimizer, parameters)
    assert describe_optimizer(torch, optimizer)["implementation"] == expected
    assert expected == ("fused" if fused else "forloop")


@pytest.mark.parametrize("name", _OWN_DEFAULT_IS_FORLOOP)
def test_classes_without_a_default_choice(name):
    if not hasattr(optim, name):
        pytest.skip("not in this torch")
    optimizer = getattr(optim, name)([nn.Parameter(torch.ones(3, 3))], lr=0.01)
    fact = describe_optimizer(torch, optimizer)
    assert fact["implementation"] == "forloop"
    assert fact["fused_supported"] is False


def test_default_is_foreach_on_a_device_with_such_kernels(monkeypatch):
    module = sys.modules["torch.optim.optimizer"]
    monkeypatch.setattr(module, "_get_foreach_kernels_supported_devices", lambda: ["cpu"])
    parameters = _parameters()
    assert describe_optimizer(torch, optim.Adam(parameters))["implementation"] == "foreach"
    differentiable = optim.Adam(parameters, differentiable=True)
    assert describe_optimizer(torch, differentiable)["implementation"] == "forloop"
    explicit = optim.Adam(parameters, fused=False)
    assert describe_optimizer(torch, explicit)["implementation"] == "forloop"
    by_tensor = optim.Adam(parameters, lr=torch.tensor(0.1))
    fact = describe_optimizer(torch, by_tensor)
    assert fact["implementation"] == "forloop"
    assert fact["groups"][0]["lr"] is None


def test_lbfgs_has_no_such_choice():
    fact = describe_optimizer(torch, optim.LBFGS(_parameters()))
    assert fact["implementation"] is None
    assert fact["fused_supported"] is False


class Foreign(optim.Optimizer):
    def __init__(self, params):
        super().__init__(params, {"lr": 0.1, "schedule": lambda step: step, "name": "mine"})

    def step(self, closure=None):
        return None


class Inheriting(optim.AdamW):
    pass


def test_foreign_and_inheriting_classes():
    fact = describe_optimizer(torch, Foreign(_parameters()))
    assert fact["type"] == f"{__name__}.Foreign"
    assert fact["implementation"] is None
    assert fact["fused_supported"] is None
    assert fact["groups"][0]["name"] == "mine"
    assert fact["groups"][0]["schedule"] is None
    inheriting = describe_optimizer(torch, Inheriting(_parameters()))
    assert inheriting["type"] == f"{__name__}.Inheriting"
    assert inheriting["implementation"] == "forloop"
    assert inheriting["fused_supported"] is True


def test_sizes_groups_and_parameters_in_no_group():
    model = nn.Sequential(nn.Linear(4, 4), nn.Linear(4, 2))
    groups = [
        {"params": [model[1].weight], "foreach": True},
        {"params": [model[1].bias, model[0].bias], "lr": 0.5},
    ]
    optimizer = optim.Adam(groups, lr=0.1)
    model(torch.ones(1, 4)).sum().backward()
    optimizer.step()
    fact = describe_optimizer(torch, optimizer, model.parameters())
    assert (fact["tensor_count"], fact["parameter_count"]) == (3, 8 + 2 + 4)
    assert [group["lr"] for group in fact["groups"]] == [0.1, 0.5]
    assert [group["tensors"] for group in fact["groups"]] == [1, 2]
    assert [group["implementation"] for group in fact["groups"]] == ["foreach", "forloop"]
    assert fact["implementation"] == "forloop"  # of the larger group
    assert fact["state_bytes"] == 2 * 14 * 4 + 3 * 4
    assert fact["params_in_no_group"] == 16
    assert json.loads(json.dumps(fact)) == fact


@pytest.mark.parametrize(
    ("parameters", "supported"),
    [
        ([torch.ones(2)], True),
        ([torch.ones(2), torch.ones(2, dtype=torch.complex64)], False),
        ([torch.ones(2, device="meta")], False),
    ],
)
def test_fused_supported_by_device_and_dtype(parameters, supported):
    optimizer = optim.Adam([nn.Parameter(p) for p in parameters])
    assert describe_optimizer(torch, optimizer)["fused_supported"] is supported


def test_no_fused_form_takes_sparse_gradients():
    words, head = nn.Embedding(4, 2, sparse=True), nn.Linear(2, 1)
    adagrad = optim.Adagrad([*words.parameters(), *head.parameters()])
    dense = optim.Adagrad(head.parameters())

    for optimizer, supported in ((adagrad, False), (dense, True)):
        fact = describe_optimizer(torch, optimizer, (), [words.weight])
        assert fact["fused_supported"] is supported


@pytest.mark.loops
def test_wrappers_of_libraries_are_looked_through():
    accelerate = pytest.importorskip("accelerate.optimizer")
    lightning = pytest.importorskip("lightning.pytorch.core.optimizer")
    inner = optim.SGD(_parameters(), lr=0.1, momentum=0.9)
    lit = lightning.LightningOptimizer(inner)
    accelerated = accelerate.AcceleratedOptimizer.__new__(accelerate.AcceleratedOptimizer)
    accelerated.optimizer = inner
    for wrapper in (lit, accelerated):
        fact = describe_optimizer(torch, wrapper)
        assert fact["type"] == "torch.optim.sgd.SGD"
        assert fact["implementation"] == "forloop"
        assert fact["groups"][0]["momentum"] == 0.9
