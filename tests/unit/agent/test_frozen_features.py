"""Frozen modules in front of trained ones: their time, and whether their rows come again."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

from trainprof.profiler.agent import frozen_features, guard  # noqa: E402
from trainprof.profiler.agent.backward_watch import BackwardWatch  # noqa: E402
from trainprof.profiler.agent.frozen_features import FrozenFeatures  # noqa: E402
from trainprof.profiler.agent.recorder import Recorder  # noqa: E402

ROWS = torch.randn(40, 4, generator=torch.Generator().manual_seed(1))


class Probing:
    """A frozen backbone under a trained head; an epoch is ten batches in another order."""

    def __init__(self, *, frozen=("backbone",), augment=None, middle=None):
        torch.manual_seed(0)
        self.model = nn.Sequential()
        self.model.add_module("stem", middle or nn.Identity())
        self.model.add_module("backbone", nn.Sequential(nn.Linear(4, 8), nn.Dropout(0.5)))
        self.model.add_module("head", nn.Linear(8, 2))
        for name in frozen:
            getattr(self.model, name).requires_grad_(False).eval()
        self.augment = augment or (lambda rows: rows)
        self.recorder = Recorder()
        self.recorder.follow_thread()
        self.epoch = 0
        self.backwards = BackwardWatch(torch, self.recorder)
        self.features = FrozenFeatures(torch, self.recorder, self.backwards, lambda: self.epoch)

    def train(self, epochs):
        for _ in range(epochs):
            self.epoch += 1
            self.features.look([self.model])
            for batch in ROWS[torch.randperm(len(ROWS))].split(4):
                self.model(self.augment(batch)).square().sum().backward()
                self.recorder.updates += 1
        fact = self.features.look([self.model])
        self.backwards.stop()
        self.features.stop()
        return fact


def global_hooks():
    module = torch.nn.modules.module
    return len(module._global_forward_hooks) + len(module._global_forward_pre_hooks)


@pytest.fixture(autouse=True)
def nothing_is_left():
    from torch._dynamo.utils import counters

    counters.clear()
    guard.reset()
    engine = torch.autograd._engine_run_backward
    yield
    assert torch.autograd._engine_run_backward is engine
    assert global_hooks() == 0
    assert guard.failures == []


def test_nothing_to_say_where_nothing_is_frozen():
    assert Probing(frozen=()).train(1) is None


def test_times_the_frozen_modules_of_sampled_steps():
    fact = Probing().train(3)

    assert fact["modules"] == ["backbone"]
    assert fact["parameters"] == 40
    assert fact["changed"] is False
    assert fact["random_layers"] == []
    assert fact["feature_bytes"] == 8 * 4
    assert len(fact["samples"]) == 3 * 4
    assert all(0 < frozen < whole for whole, frozen in fact["samples"])


def test_rows_of_earlier_epochs_are_known_again():
    fact = Probing().train(12)

    expected = fact["row_pairs"] / len(ROWS)
    assert expected > 40
    assert 0.6 < fact["rows_known"] / expected < 1.4


def test_random_rows_are_never_known():
    fact = Probing(augment=lambda rows: rows + 0.01 * torch.randn_like(rows)).train(12)

    assert fact["row_pairs"] / len(ROWS) > 40
    assert fact["rows_known"] == 0


def test_a_frozen_module_behind_a_trained_one_is_not_timed():
    fact = Probing(middle=nn.Linear(4, 4)).train(3)

    assert all(frozen == 0 for _, frozen in fact["samples"])


def test_layers_in_training_mode_are_named():
    probing = Probing()
    probing.model.backbone.train()

    assert probing.train(1)["random_layers"] == ["Dropout"]


def test_values_that_change():
    probing = Probing()
    probing.train(1)
    with torch.no_grad():
        probing.model.backbone[0].weight.add_(1.0)

    assert probing.train(1)["changed"] is True


def test_a_model_can_be_copied_and_saved_in_a_sampled_step(tmp_path):
    probing = Probing()
    probing.features.look([probing.model])
    probing.model(ROWS[:4]).sum().backward()
    assert global_hooks() == 2

    torch.save(probing.model, tmp_path / "model.pt")

    probing.train(1)


def test_rows_that_cannot_be_read_do_not_stop_the_training(monkeypatch):
    def refuse(*_):
        raise RuntimeError("no storage")

    monkeypatch.setattr(frozen_features, "row_hashes", refuse)
    Probing().train(2)

    assert [collector for collector, *_ in guard.failures] == ["frozen features"]
    guard.reset()
