"""Larger batches in validation: what is the same, and where they stay as they are."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.utils.data import (  # noqa: E402
    BatchSampler,
    DataLoader,
    SequentialSampler,
    TensorDataset,
)

DATA = TensorDataset(torch.linspace(-1.0, 1.0, 110)[:, None].repeat(1, 4))


class Training:
    """Three validations, each after two updates."""

    def __init__(self, loader, limit=1_000, mode="eval"):
        torch.manual_seed(0)
        self.model = nn.Sequential(nn.Linear(4, 8), nn.BatchNorm1d(8), nn.Linear(8, 1))
        self.loader, self.limit, self.mode = loader, limit, mode
        self.losses, self.scores, self.sizes = [], [], []

    def run(self):
        optimizer = torch.optim.SGD(self.model.parameters(), lr=0.1)
        for step in range(6):
            loss = self.model(torch.randn(8, 4)).square().mean()
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            self.losses.append(loss.item())
            if step % 2:
                self.validate()
        return self

    @torch.no_grad()
    def validate(self):
        getattr(self.model, self.mode)()
        total, sizes = 0.0, []
        for number, (x,) in enumerate(self.loader):
            total += self.model(x).square().sum().item()
            sizes.append(len(x))
            if number + 1 == self.limit:
                break
        self.model.train()
        self.scores.append(total / sum(sizes))
        self.sizes.append(sizes)


def plain_and_applied(apply, make, **options):
    plain = Training(make(), **options).run()
    applied = apply("validation-batch", {"batch_size": 64})
    return plain, Training(make(), **options).run(), applied


@pytest.mark.parametrize(
    "make",
    [
        lambda: DataLoader(DATA, batch_size=16),
        lambda: DataLoader(
            DATA, sampler=BatchSampler(SequentialSampler(DATA), 16, False), batch_size=None
        ),
    ],
)
def test_later_passes_have_larger_batches(apply, make):
    plain, changed, applied = plain_and_applied(apply, make)
    assert changed.sizes == [[16] * 6 + [14], [64, 46], [64, 46]]
    assert len(changed.loader) == 2
    assert changed.losses == plain.losses
    assert changed.scores == pytest.approx(plain.scores, rel=1e-5)
    assert applied.read() == (True, {"batch_size": 64, "passes": 2}, None)


@pytest.mark.parametrize(
    ("loader", "options", "reason"),
    [
        ({"drop_last": True}, {}, "the loader drops its last batch, and would drop more"),
        ({}, {"limit": 3}, "a pass was left before its end"),
        ({}, {"mode": "train"}, "its forwards are in training mode"),
        ({"batch_size": 11}, {}, "all its batches have one size, which the model may need"),
        ({"batch_size": 100}, {}, "its batches hold 100 samples already"),
    ],
)
def test_where_batches_stay_as_they_are(apply, loader, options, reason):
    def make():
        return DataLoader(DATA, **{"batch_size": 16, **loader})

    plain, changed, applied = plain_and_applied(apply, make, **options)
    assert changed.sizes == plain.sizes
    assert changed.scores == plain.scores
    assert changed.losses == plain.losses
    assert applied.read()[::2] == (False, reason)


def test_samples_that_are_padded_to_the_longest_of_a_batch(apply):
    def pad(rows):
        longest = max(int(row[0] * 3 + 4) for (row,) in rows)
        return torch.stack([row for (row,) in rows]), torch.zeros(len(rows), longest)

    applied = apply("validation-batch", {"batch_size": 64})
    training = Training([])
    training.loader = DataLoader(DATA, batch_size=16, collate_fn=pad)
    with torch.no_grad():
        training.model.eval()
        for _ in range(2):
            sizes = [len(training.model(x)) for x, _ in training.loader]
    assert sizes == [16] * 6 + [14]
    assert applied.read()[2] == "its samples differ in shape from batch to batch"


def test_a_loader_that_trains_too(apply):
    applied = apply("validation-batch", {"batch_size": 64})
    training = Training(DataLoader(DATA, batch_size=16)).run()
    assert applied.read()[0] is True
    assert [len(x) for (x,) in training.loader] == [16] * 6 + [14]
    training.validate()
    assert training.sizes[-1] == [16] * 6 + [14]
    assert applied.read()[::2] == (False, "the loader is used with gradients too")
