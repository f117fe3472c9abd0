"""Fixes of one switch: collections, profilers, subnormal numbers."""

from __future__ import annotations

import gc

import pytest

torch = pytest.importorskip("torch")

from torch import nn  # noqa: E402
from torch.profiler import ProfilerActivity, profile  # noqa: E402


def train(steps=30, in_step=lambda step: None):
    torch.manual_seed(0)
    model = nn.Linear(4, 1)
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    losses = []
    for step in range(steps):
        loss = model(torch.randn(8, 4)).square().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        losses.append(loss.item())
        in_step(step)
    return losses


class Collections:
    """Counts full collections that somebody asks for."""

    def __enter__(self):
        self.count = 0
        gc.callbacks.append(self._heard)
        return self

    def __exit__(self, *error):
        gc.callbacks.remove(self._heard)

    def _heard(self, phase, info):
        self.count += phase == "start" and info["generation"] == 2


def collect(step):
    gc.collect()


@pytest.fixture
def small_heap():
    """What other tests have made is not collected again and again: that takes half a second."""
    gc.collect()
    gc.freeze()
    yield
    gc.unfreeze()


def test_collections_in_the_loop_are_left_out(apply, small_heap):
    plain = train(in_step=collect)
    applied = apply("gc-manual-off")
    with Collections() as collections:
        assert train(in_step=collect) == plain
    assert collections.count <= 2
    assert applied.read() == (True, {"left_out": 29, "made": 1}, None)


def test_rare_collections_are_made(apply, small_heap):
    applied = apply("gc-manual-off")
    with Collections() as collections:
        train(40, in_step=lambda step: gc.collect() if step % 12 == 0 else None)
    assert collections.count >= 4
    assert applied.read()[0] is False


def test_collections_that_replace_the_automatic_ones_are_made(apply, small_heap):
    applied = apply("gc-manual-off")
    gc.disable()
    try:
        train(in_step=collect)
        active, seen, reason = applied.read()
    finally:
        gc.enable()
    assert (active, seen) == (False, {"left_out": 0, "made": 30})
    assert "automatic collection is off" in reason


def test_collections_of_a_library_are_made(apply, small_heap):
    applied = apply("gc-manual-off")
    library = compile("import gc\ndef clean(step):\n    gc.collect()\n", "<library>", "exec")
    names = {"__name__": "library"}
    exec(library, names)
    with Collections() as collections:
        train(in_step=names["clean"])
    assert collections.count >= 30
    assert applied.read()[1] == {"left_out": 0, "made": 0}


def test_a_profiler_records_nothing(apply):
    plain = train()
    applied = apply("profiler-off", {"profiler": False})
    handled = []
    with profile(activities=[ProfilerActivity.CPU], on_trace_ready=handled.append) as profiler:
        assert not torch.autograd._profiler_enabled()
        assert train(in_step=lambda step: profiler.step()) == plain
    assert handled == []
    assert applied.read() == (True, {"opened": 1, "records": False}, None)


def test_the_older_profiler_records_nothing(apply):
    applied = apply("profiler-off")
    with torch.autograd.profiler.profile():
        assert not torch.autograd._profiler_enabled()
    assert applied.read()[0] is True


def test_a_profile_that_is_read_is_wanted(apply, tmp_path):
    applied = apply("profiler-off")
    with profile(activities=[ProfilerActivity.CPU]) as profiler:
        train(2)
    profiler.export_chrome_trace(str(tmp_path / "trace.json"))
    assert profiler.key_averages().table(sort_by="cpu_time_total", row_limit=3) == ""
    assert applied.read()[::2] == (False, "the script reads what was recorded (key_averages)")


def test_a_script_without_a_profiler(apply):
    assert apply("profiler-off").read()[2] == "the script opens no profiler"


def test_subnormal_numbers_are_zero(apply):
    tiny = torch.full((8,), 1e-39)
    assert tiny.mul(1.0).count_nonzero() == 8
    applied = apply("flush-denormal", {"flush_denormal": True})
    try:
        torch.set_flush_denormal(False)  # what was measured stays
        assert applied.read()[0] is None
        losses = train()
        assert tiny.mul(1.0).count_nonzero() == 0
        assert applied.read() == (True, {"flush_denormal": True}, None)
    finally:
        applied.patches.undo()
        torch.set_flush_denormal(False)
    assert losses == pytest.approx(train(), rel=1e-6)
