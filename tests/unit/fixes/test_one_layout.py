"""Channels last: weights and batches of images, or nothing of it."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402

LAST = torch.channels_last


class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(3, 8, 3, padding=1), nn.BatchNorm2d(8)
        self.head = nn.Linear(8, 2)
        self.last = []

    def features(self, x):
        x = self.norm(self.conv(x))
        self.last.append(x.is_contiguous(memory_format=LAST))
        return x

    def forward(self, x):
        return self.head(self.features(x).relu().mean((2, 3)))


class Maps(Net):
    def forward(self, x):
        return self.features(x)


class Viewing(Net):
    def forward(self, x):
        return self.head(self.features(x).view(len(x), -1)[:, :8])


class Flat(Net):
    def forward(self, x):
        return self.head(torch.nn.functional.pad(x.mean((2, 3)), (0, 5)))


def train(kind=Net, steps=5):
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1, momentum=0.9)
    losses = []
    for _ in range(steps):
        out = model(torch.randn(4, 3, 9, 9))
        loss = out.square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses, model, out


@pytest.mark.parametrize("kind", [Net, Maps])
def test_images_keep_the_channels_last(apply, kind):
    plain, before, _ = train(kind)
    applied = apply("one-layout")
    losses, model, out = train(kind)
    assert losses == pytest.approx(plain, rel=1e-4)
    assert (set(before.last), set(model.last)) == ({False}, {True})
    assert out.is_contiguous()
    assert applied.read() == (True, {"weights": 1, "batches": 5}, None)


def test_a_forward_that_fails_with_it_is_as_before(apply):
    plain, before, _ = train(Viewing)
    applied = apply("one-layout")
    losses, model, _ = train(Viewing)
    assert losses == pytest.approx(plain, rel=1e-6)
    assert model.conv.weight.is_contiguous()
    torch.testing.assert_close(model.norm.running_mean, before.norm.running_mean)
    active, _, reason = applied.read()
    assert active is False
    assert reason.startswith("its forward fails with channels last: view size is not compatible")


def test_a_model_without_images(apply):
    applied = apply("one-layout")
    nn.Linear(4, 2)(torch.randn(3, 4))
    assert applied.read()[::2] == (False, "the model has no convolution over images")


def test_an_optimizer_under_way(apply):
    applied = apply("one-layout")
    model = nn.Conv2d(3, 4, 3)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    model.eval()(torch.randn(1, 3, 5, 5)).sum().backward()
    optimizer.step()
    model.train()(torch.randn(1, 3, 5, 5))
    assert applied.read()[2] == "its optimizer is already under way"


def test_weights_that_are_laid_out_again(apply):
    applied = apply("one-layout")
    _, model, _ = train()
    model.conv.weight.data = model.conv.weight.data.contiguous()
    assert applied.read()[2] == "weights were laid out otherwise again"


def test_batches_that_are_no_images(apply):
    applied = apply("one-layout")
    model = Flat()
    assert model(torch.randn(2, 3, 4, 4)).shape == (2, 2)
    assert applied.read()[0] is True
    assert apply("one-layout").read()[0] is None
