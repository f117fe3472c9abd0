import types

import torch

from trainprof.profiler.agent.describe import memory, read_peak_memory


def test_peak_is_at_least_what_was_held():
    before = read_peak_memory(torch)
    block = bytearray(300_000_000)
    block[::4096] = b"x" * len(block[::4096])
    after = read_peak_memory(torch)
    del block
    assert before["accelerator_peak_bytes"] is None
    assert after["peak_rss_bytes"] >= 300_000_000
    # still the peak once it is freed; the kernel's counters may be off by some pages per thread
    assert read_peak_memory(torch)["peak_rss_bytes"] > after["peak_rss_bytes"] - 10_000_000


def test_getrusage_stands_in_without_proc(monkeypatch):
    expected = memory._peak_rss_bytes()

    def no_proc(*_):
        raise FileNotFoundError

    monkeypatch.setattr(memory, "open", no_proc, raising=False)
    assert memory._peak_rss_bytes() >= expected * 0.9


def _cuda(*, initialised):
    return types.SimpleNamespace(
        is_initialized=lambda: initialised,
        device_count=lambda: 2,
        max_memory_allocated=lambda index: [10, 30][index],
    )


def test_device_that_the_script_uses():
    with_cuda = types.SimpleNamespace(cuda=_cuda(initialised=True))
    assert read_peak_memory(with_cuda)["accelerator_peak_bytes"] == 30


def test_device_that_nobody_has_initialised_is_left_alone():
    with_cuda = types.SimpleNamespace(cuda=_cuda(initialised=False))
    assert read_peak_memory(with_cuda)["accelerator_peak_bytes"] is None
