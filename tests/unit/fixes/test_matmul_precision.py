"""Products are rounded, as a product itself shows; the script's own choice wins."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from trainprof.rules.fixes import matmul_precision  # noqa: E402


def rounds():
    """Whether this CPU rounds to bfloat16 when it is told to."""
    before = torch.get_float32_matmul_precision()
    torch.set_float32_matmul_precision("medium")
    product = torch.full((256, 256), 1.0 + 2.0**-12) @ torch.eye(256)
    torch.set_float32_matmul_precision(before)
    return product[0, 0].item() == 1.0


def train(steps=5):
    torch.manual_seed(0)
    model = torch.nn.Linear(256, 256)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for _ in range(steps):
        loss = (model(torch.randn(256, 256)) - 1.0).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
    return losses


def test_a_product_tells_whether_it_is_in_force(apply):
    plain, rounded = train(), rounds()
    applied = apply("matmul-precision", {"precision": "medium"})
    losses = train()
    assert losses == pytest.approx(plain, rel=1e-3)
    active, seen, reason = applied.read()
    assert (active, seen) == (rounded, {"precision": "medium", "rounded": rounded})
    assert (reason is None) == rounded
    applied.undo()
    assert torch.get_float32_matmul_precision() == "highest"


def test_a_device_that_does_not_round(apply, monkeypatch):
    monkeypatch.setattr(matmul_precision, "PROBE_WIDTH", 1)
    monkeypatch.setattr(torch, "full", lambda shape, value, device: torch.ones(shape) * value)
    applied = apply("matmul-precision", {"precision": "high"})
    train()
    assert applied.read() == (
        False,
        {"precision": "high", "rounded": False},
        "a cpu does not round products at high",
    )


def test_the_scripts_own_choice_wins(apply):
    applied = apply("matmul-precision")
    torch.set_float32_matmul_precision("highest")
    train()
    assert applied.read()[::2] == (False, "the script sets the precision itself, to highest")
    assert torch.get_float32_matmul_precision() == "highest"


def test_nothing_was_trained_yet(apply):
    assert apply("matmul-precision").read()[0] is None


def test_other_precisions():
    with pytest.raises(ValueError, match="not high or medium"):
        matmul_precision.MatmulPrecision({"precision": "lowest"})
