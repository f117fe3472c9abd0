"""What a frozen part computed of a sample is not computed again, where that is the same."""

from __future__ import annotations

import copy

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.nn import functional  # noqa: E402

from trainprof.rules.fixes import feature_cache  # noqa: E402
from trainprof.rules.fixes.feature_rows import FeatureRows, row_keys  # noqa: E402


@pytest.fixture(autouse=True)
def slow_parts(monkeypatch):
    """However short the frozen parts below take."""
    monkeypatch.setattr(feature_cache, "LEAST_TIMES", 0.0)


class Backbone(nn.Module):
    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 16), nn.Tanh(), nn.Linear(16, 8))
        self.runs = 0

    def forward(self, x):
        self.runs += 1
        return self.layers(x)


class Probe(nn.Module):
    kind = Backbone

    def __init__(self):
        super().__init__()
        self.backbone = self.kind().eval().requires_grad_(False)
        self.head = nn.Linear(8, 1)

    def forward(self, x):
        out = self.backbone(x)
        return self.head(out["features"][0] if isinstance(out, dict) else out)


def leave(*_):
    pass


def unchanged(x, epoch):
    return x


def train(kind=Probe, epochs=6, prepare=leave, change=unchanged, between=leave):
    torch.manual_seed(0)
    data = torch.randn(64, 6)
    model = kind()
    prepare(model)
    optimizer = torch.optim.SGD([p for p in model.parameters() if p.requires_grad], lr=0.1)
    losses = []
    for epoch in range(epochs):
        for rows in torch.randperm(64).split(16):
            x = change(data[rows], epoch)
            loss = (model(x).squeeze(1) - x.sum(1)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            losses.append(loss.item())
        between(model)
    return losses, model


class Dicts(Backbone):
    def forward(self, x):
        return {"features": (super().forward(x), x.sum(1))}


class DictProbe(Probe):
    kind = Dicts


@pytest.mark.parametrize("kind", [Probe, DictProbe])
def test_later_epochs_look_it_up(apply, kind):
    plain, before = train(kind)
    applied = apply("feature-cache")
    losses, model = train(kind)
    assert losses == pytest.approx(plain, rel=1e-6)
    assert before.backbone.runs == 24
    assert model.backbone.runs == 4 + feature_cache.FIRST_CHECKS
    seen = {"modules": 1, "rows_known": 320, "rows_held": 64, "batches_checked": 2}
    assert applied.read() == (True, seen, None)


def test_a_root_of_its_own(apply):
    applied = apply("feature-cache")
    backbone, x = Backbone().requires_grad_(False), torch.randn(8, 6)
    results = [backbone(x) for _ in range(6)]
    assert backbone.runs == 1 + feature_cache.FIRST_CHECKS
    assert all(torch.equal(one, results[0]) for one in results)
    results[-1].add_(1.0)  # is the caller's own
    assert torch.equal(backbone(x), results[0])
    assert applied.read()[0] is True


def noise(x, epoch):
    return x + 0.01 * epoch


class Functional(Backbone):
    def forward(self, x):
        return functional.dropout(super().forward(x), 0.1)


class Counting(Backbone):
    def __init__(self):
        super().__init__()
        self.register_buffer("count", torch.zeros(()))

    def forward(self, x):
        self.count += 1
        return super().forward(x)


class Pooled(Backbone):
    def forward(self, x):
        return super().forward(x - x.mean(0))


class Summed(Backbone):
    def forward(self, x):
        return super().forward(x).sum(0, keepdim=True)


def probe_of(part):
    return type("Probe", (Probe,), {"kind": part})


def with_dropout(model):
    model.backbone.layers.append(nn.Dropout(0.1))
    model.backbone.train()


def with_statistics(model):
    model.backbone.layers.append(nn.BatchNorm1d(8).requires_grad_(False))
    model.backbone.train()


def hooked(model):
    model.backbone.register_forward_hook(lambda module, args, out: None)


def average(model):
    with torch.no_grad():
        for one in model.backbone.parameters():
            one.mul_(0.9)


def unfreeze(model):
    model.backbone.requires_grad_(True)


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"kind": probe_of(Functional)}, "draws random numbers"),
        ({"kind": probe_of(Counting)}, "changes what it holds"),
        ({"kind": probe_of(Pooled)}, "other features of the same samples"),
        ({"kind": probe_of(Summed)}, "one row for each sample"),
        ({"prepare": with_dropout}, "a Dropout in it is in training mode"),
        ({"prepare": with_statistics}, "a BatchNorm1d in it is in training mode"),
        ({"prepare": hooked}, "hooks its forward"),
        ({"between": average}, "changes although nothing trains it"),
        ({"between": unfreeze}, "it is trained later"),
    ],
    ids=lambda value: value if isinstance(value, str) else "with",
)
def test_what_would_not_be_the_same_is_computed(apply, options, reason):
    plain, _ = train(**options)
    applied = apply("feature-cache")
    losses, _ = train(**options)
    assert losses == pytest.approx(plain, rel=1e-6)
    active, seen, why = applied.read()
    assert (active, seen["rows_held"]) == (False, 0)
    assert reason in why


def test_random_augmentation_never_finds_anything(apply):
    plain, _ = train(change=noise)
    applied = apply("feature-cache")
    losses, _ = train(change=noise)
    assert losses == plain
    assert applied.read()[::2] == (None, "no sample came a second time yet")


def test_flips_find_half_and_are_given_up(apply, monkeypatch):
    monkeypatch.setattr(feature_cache, "JUDGED_ROWS", 128)

    def flipped(x, epoch):
        return torch.where(torch.rand(len(x), 1) < 0.7, torch.rand_like(x), x)

    plain, _ = train(change=flipped)
    applied = apply("feature-cache")
    assert train(change=flipped)[0] == pytest.approx(plain, rel=1e-6)
    assert "random augmentation" in applied.read()[2]


def test_features_that_do_not_fit(apply, monkeypatch):
    monkeypatch.setattr(feature_cache, "host_memory", lambda: (4_096, 10**9))
    applied = apply("feature-cache")
    train()
    assert applied.read()[2] == "a quarter of the free memory was full before a sample came again"


def test_a_cheap_part_is_left_alone(apply, monkeypatch):
    monkeypatch.setattr(feature_cache, "LEAST_TIMES", 1e9)
    applied = apply("feature-cache")
    train()
    assert applied.read()[2] == "to compute it takes hardly longer than to look it up"


def test_a_model_that_trains_wholly(apply):
    applied = apply("feature-cache")
    train(prepare=unfreeze)
    assert applied.read()[::2] == (False, "no part of the model is frozen")


def test_copies_and_pickles_of_the_model_are_plain(apply):
    apply("feature-cache")
    _, model = train()
    assert copy.deepcopy(model).backbone.__dict__.keys() == Probe().backbone.__dict__.keys()


def test_rows_are_told_apart_by_all_of_their_bytes():
    x = torch.zeros(3, 1_000)
    x[1, 999] = 1e-30
    keys = row_keys([x], "form")
    assert keys[0] == keys[2] != keys[1]
    assert keys[0] != row_keys([x], "other form")[0]
    assert keys[0] != row_keys([x.to(torch.int32)], "form")[0]
    assert row_keys([x.T.contiguous().T], "form") == keys


def test_stores_grow_and_keep_what_they_hold():
    rows, features = FeatureRows(torch), torch.randn(700, 3)
    keys = [bytes([n % 256, n // 256]) for n in range(700)]
    for start in range(0, 700, 100):
        assert rows.add(keys[start : start + 100], [features[start : start + 100]])
    assert rows.rows == 700
    assert torch.equal(rows.take(rows.places(keys))[0], features)
    assert rows.held_bytes == 1_024 * 3 * 4
    assert not rows.add([b"x"], [torch.zeros(1, 4)])
