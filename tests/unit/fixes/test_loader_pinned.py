"""Pinned batches, on a device that is made up: "meta", whose tensors hold nothing."""

from __future__ import annotations

from typing import ClassVar

import pytest

torch = pytest.importorskip("torch")

from torch.utils.data import DataLoader, TensorDataset  # noqa: E402

PARAMS = {"pin_memory": True, "non_blocking": True}
DATA = TensorDataset(torch.arange(32.0), torch.arange(32))


class Pinned(torch.Tensor):
    """Stands for a tensor in page-locked memory; notes how it is copied."""

    waits: ClassVar[list] = []

    def is_pinned(self, device=None):
        return True


@pytest.fixture
def device(monkeypatch):
    """An accelerator of which everything is there but the hardware."""
    to = torch.Tensor.to

    def noted(tensor, *args, non_blocking=False, **kwargs):
        if isinstance(tensor, Pinned):
            Pinned.waits.append(not non_blocking)
        return to(tensor.as_subclass(torch.Tensor), *args, **kwargs)

    Pinned.waits = []
    monkeypatch.setattr(torch.accelerator, "is_available", lambda: True)
    monkeypatch.setattr(torch.accelerator, "current_accelerator", lambda: torch.device("meta"))
    monkeypatch.setattr(torch.accelerator, "current_device_index", lambda: 0)
    monkeypatch.setattr(torch.Tensor, "pin_memory", lambda one: one.clone().as_subclass(Pinned))
    monkeypatch.setattr(torch.Tensor, "to", noted)
    return torch.device("meta")


def test_copies_from_pinned_memory_do_not_wait(device, apply):
    applied = apply("loader-pinned", PARAMS)
    loader = DataLoader(DATA, batch_size=8)
    assert loader.pin_memory
    assert applied.read() == (None, {"pin_memory": True, "pinned_copies": 0}, None)
    for numbers, labels in loader:
        assert numbers.to(device).device == device
        assert labels.to(device, torch.float16).dtype == torch.float16
    assert Pinned.waits == [False] * 8
    assert applied.read() == (True, {"pin_memory": True, "pinned_copies": 8}, None)


def test_what_else_to_does_stays(device, apply):
    apply("loader-pinned", PARAMS)
    (numbers, labels), *_ = DataLoader(DATA, batch_size=8)
    assert numbers.to(torch.float64).dtype == torch.float64
    assert labels.to(numbers).dtype == torch.float32
    assert numbers.to(device, copy=True).device == device
    assert torch.ones(2).to(device).device == device
    assert False not in Pinned.waits


def test_a_batch_that_is_written_to_after_its_copy(device, apply):
    applied = apply("loader-pinned", PARAMS)
    for numbers, _ in DataLoader(DATA, batch_size=8):
        numbers.to(device)
        numbers.zero_()
        kept = numbers  # else nobody can look at it again
    assert kept is not None
    active, _, reason = applied.read()
    assert active is False
    assert reason == "the script writes into a batch after it was copied to the device"
    Pinned.waits.clear()
    numbers.to(device)
    assert Pinned.waits == [True]


def test_batches_that_cannot_be_pinned(device, apply, monkeypatch):
    def refuse(tensor):
        raise RuntimeError("cannot pin 'torch.cuda.FloatTensor'")

    monkeypatch.setattr(torch.Tensor, "pin_memory", refuse)
    applied = apply("loader-pinned", PARAMS)
    assert len(list(DataLoader(DATA, batch_size=8))) == 4
    reason = "torch cannot pin the batches (cannot pin 'torch.cuda.FloatTensor')"
    assert applied.read() == (False, {"pin_memory": True, "pinned_copies": 0}, reason)


def test_short_memory(device, apply, monkeypatch):
    from trainprof.rules.fixes import loader_pinned

    monkeypatch.setattr(loader_pinned, "memory_is_short", lambda torch: True)
    applied = apply("loader-pinned", PARAMS)
    assert not DataLoader(DATA, batch_size=8).pin_memory
    assert applied.read()[2].startswith("memory is short")


def test_a_machine_without_accelerator(apply, run_script):
    if torch.accelerator.is_available():
        pytest.skip("there is one")
    applied = apply("loader-pinned", PARAMS)
    script = """
        loader = DataLoader(torch.arange(64.0), batch_size=8)
        print(loader.pin_memory, sum(len(batch.to("cpu")) for batch in loader))
    """
    assert run_script(script) == ["False", "64"]
    assert applied.read() == (False, {}, "there is no accelerator here")
