"""Root modules that train are compiled in place, and taken back where that gains nothing."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from trainprof.rules.fixes import model_compile  # noqa: E402

pytestmark = [
    pytest.mark.skipif(shutil.which("g++") is None, reason="there is no C++ compiler"),
    pytest.mark.filterwarnings("ignore:.*torch.jit.script_method:DeprecationWarning"),
]


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.body, self.drop, self.head = nn.Linear(4, 8), nn.Dropout(0.2), nn.Linear(8, 1)

    def forward(self, x):
        return self.head(self.drop(torch.tanh(self.body(x)) * 2.0))


def more(x):
    torch._dynamo.graph_break()
    return x


class Broken(Net):
    """Falls into as many pieces as there are breaks."""

    def forward(self, x):
        x = more(more(more(x + 1.0) + 1.0) + 1.0)
        x = more(more(more(x + 1.0) + 1.0) + 1.0)
        return super().forward(more(x + 1.0))


class Reading(Net):
    def forward(self, x):
        return super().forward(x) * (2.0 if x.sum().item() > 0.0 else 3.0)


@pytest.fixture(autouse=True)
def fresh(monkeypatch, tmp_path_factory):
    """Nothing is compiled yet, and graphs run as they are traced: that takes no C++ compiler."""
    import torch._dynamo
    import torch._inductor.compile_fx

    def traced(graph, inputs, config_patches):
        assert config_patches == {"fallback_random": True}
        return graph.forward

    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()
    monkeypatch.setattr(torch._inductor.compile_fx, "compile_fx", traced)
    yield
    torch._dynamo.reset()
    torch._dynamo.utils.counters.clear()


def train(kind=Net, steps=8, batch=lambda step: 16, wrap=lambda model: model):
    torch.manual_seed(0)
    model = kind()
    called = wrap(model)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.05)
    losses = []
    for step in range(steps):
        x = torch.randn(batch(step), 4)
        loss = (called(x).squeeze(1) - x.sum(1)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model


def test_the_model_is_compiled_once_and_learns_alike(apply):
    plain, before = train()
    applied = apply("model-compile")
    losses, model = train()
    assert losses == pytest.approx(plain, rel=1e-5)
    assert list(model.state_dict()) == list(before.state_dict())
    active, seen, reason = applied.read()
    assert (active, reason) == (True, None)
    assert (seen["forwards"], seen["graphs"], seen["again"]) == (8, 1, 0)
    applied.undo()
    assert model._compiled_call_impl is None


@pytest.mark.slow
def test_real_code_is_made_of_it_with_the_same_random_numbers(apply, monkeypatch):
    monkeypatch.undo()
    plain, _ = train()
    applied = apply("model-compile")
    losses, _ = train()
    assert losses == pytest.approx(plain, rel=1e-5)
    active, seen, _ = applied.read()
    assert active is True
    assert seen["compile_s"] > 0.1


def test_evaluation_is_not_compiled(apply):
    applied = apply("model-compile")
    _, model = train()
    model.eval()
    with torch.no_grad():
        model(torch.randn(3, 4))
    model(torch.randn(5, 4))
    assert applied.read()[1]["graphs"] == 1


def test_a_forward_in_many_pieces_is_left_as_it_was(apply):
    plain, _ = train(Broken)
    applied = apply("model-compile")
    losses, model = train(Broken)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert model._compiled_call_impl is None
    assert applied.read()[::2] == (False, "the forward falls into 8 pieces")


def test_a_break_or_two_are_borne(apply):
    plain, _ = train(Reading)
    applied = apply("model-compile")
    losses, _ = train(Reading)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert applied.read()[0] is True


def test_shapes_that_go_on_changing_end_it(apply):
    import torch._dynamo

    with torch._dynamo.config.patch(assume_static_by_default=True, automatic_dynamic_shapes=False):
        plain, _ = train(steps=14, batch=lambda step: 8 + step)
        applied = apply("model-compile")
        losses, model = train(steps=14, batch=lambda step: 8 + step)
    assert losses == pytest.approx(plain, rel=1e-5)
    assert model._compiled_call_impl is None
    assert applied.read()[::2] == (
        False,
        "it is compiled again and again, as the shapes of its inputs change",
    )


def test_a_graph_that_cannot_be_compiled_runs_as_it_is(apply, monkeypatch):
    import torch._inductor.compile_fx

    from trainprof.profiler.agent import guard

    def fails(*_, **__):
        raise RuntimeError("CppCompileError")

    plain, _ = train()
    monkeypatch.setattr(torch._inductor.compile_fx, "compile_fx", fails)
    applied = apply("model-compile")
    losses, _ = train()
    assert losses == pytest.approx(plain, rel=1e-5)
    assert applied.read()[::2] == (False, "RuntimeError: CppCompileError")
    guard.reset()


def test_a_script_that_compiles_itself(apply):
    def own(model):
        return torch.compile(model, backend="eager")

    plain, _ = train(wrap=own)
    torch._dynamo.reset()
    applied = apply("model-compile")
    assert train(wrap=own)[0] == pytest.approx(plain, rel=1e-5)
    assert applied.read()[::2] == (False, "the script uses torch.compile itself")


def test_a_module_that_was_compiled_in_place(apply):
    def own(model):
        model.compile(backend="eager")
        return model

    applied = apply("model-compile")
    _, model = train(wrap=own)
    assert applied.read()[::2] == (False, "the script compiles its modules itself")
    assert model._compiled_call_impl is not None


def test_without_a_compiler(apply, monkeypatch):
    monkeypatch.setattr(model_compile.shutil, "which", lambda name: None)
    applied = apply("model-compile")
    train()
    active, seen, reason = applied.read()
    assert (active, seen["forwards"]) == (False, 0)
    assert reason == "there is no C++ compiler, which torch.compile needs on the CPU"


def test_without_triton_on_a_gpu(monkeypatch):
    monkeypatch.setattr(model_compile.importlib.util, "find_spec", lambda name: None)
    assert "Triton" in model_compile._no_compiler({"cuda"})


def test_wrappers_and_scripts_of_torch(apply):
    applied = apply("model-compile")
    wrapped = nn.DataParallel(Net())
    wrapped(torch.randn(2, 4))
    assert applied.read()[2] == "DataParallel cuts the model into pieces itself"


def test_nothing_was_called_yet(apply):
    assert apply("model-compile").read()[0] is None
