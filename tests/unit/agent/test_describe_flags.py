import gc
import json
import os
import sys
import threading
import types
import warnings

import pytest
import torch

from trainprof.profiler.agent.describe import FlagWatch, flags, read_flags
from trainprof.profiler.agent.patching import Patches
from trainprof.profiler.model.facts import FlagsFact


@pytest.fixture
def watch(hooks):
    return FlagWatch.install(torch, hooks.patches)


def test_all_keys_of_the_contract(watch):
    with torch.autograd.set_detect_anomaly(True), torch.autograd.profiler.profile():
        fact = read_flags(torch, watch)
    assert set(fact) == set(FlagsFact.__annotations__)
    assert json.loads(json.dumps(fact)) == fact


def test_defaults():
    fact = read_flags(torch)
    assert fact["anomaly_enabled"] is False
    assert fact["profiler_enabled"] is False
    assert fact["deterministic_algorithms"] is False
    assert fact["autocast"] == {}
    assert fact["default_dtype"] == "float32"
    assert fact["matmul_precision"] == "highest"
    assert fact["flush_denormal"] is False
    assert fact["gc_enabled"] is True
    assert fact["gc_threshold"] == list(gc.get_threshold())
    assert fact["cpu_count_torch"] == os.cpu_count()
    assert fact["num_threads"] == torch.get_num_threads()
    assert fact["accelerator"] is None
    assert "grad_scaler" not in fact


def test_devices_by_uuid_once_one_is_in_use(monkeypatch):
    """Without a device none is asked for: that could start the driver before a fork."""
    names = ["fake-0", "fake-1"]
    monkeypatch.setattr(torch.cuda, "device_count", lambda: len(names))
    monkeypatch.setattr(
        torch.cuda, "get_device_properties", lambda i: types.SimpleNamespace(uuid=names[i])
    )
    assert read_flags(torch)["accelerator_uuids"] == []
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    assert read_flags(torch)["accelerator_uuids"] == names


def test_a_device_without_uuid_is_left_nameless(monkeypatch):
    """Torch tells them since 2.4."""
    monkeypatch.setattr(torch.cuda, "is_initialized", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 1)
    monkeypatch.setattr(torch.cuda, "get_device_properties", lambda i: object())
    assert read_flags(torch)["accelerator_uuids"] == [""]


def test_autocast_belongs_to_the_thread():
    seen = []
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert read_flags(torch)["autocast"] == {"cpu": "bfloat16"}
        thread = threading.Thread(target=lambda: seen.append(read_flags(torch)["autocast"]))
        thread.start()
        thread.join()
    assert seen == [{}]


def test_switches_are_seen():
    torch.use_deterministic_algorithms(True, warn_only=True)
    torch.set_default_dtype(torch.float64)
    supported = torch.set_flush_denormal(True)
    try:
        fact = read_flags(torch)
    finally:
        torch.use_deterministic_algorithms(False)
        torch.set_default_dtype(torch.float32)
        torch.set_flush_denormal(False)
    assert fact["deterministic_algorithms"] is True
    assert fact["default_dtype"] == "float64"
    assert fact["flush_denormal"] is supported
    assert read_flags(torch)["flush_denormal"] is False


def test_tracing_and_frozen_objects(monkeypatch):
    monkeypatch.setattr(flags, "_frozen", flags._FrozenObjects())
    gc.freeze()
    try:
        assert read_flags(torch)["gc_frozen"] > 1_000
    finally:
        gc.unfreeze()
    before = sys.getprofile()
    sys.setprofile(lambda *_: None)
    try:
        assert read_flags(torch)["tracing"] is True
    finally:
        sys.setprofile(before)


def test_long_count_of_frozen_objects_is_not_repeated_at_once(monkeypatch):
    counts = iter([5, 7])
    clock = iter([0, 2_000_000, 3_000_000, 3_000_000_000, 3_000_000_000])
    monkeypatch.setattr(gc, "get_freeze_count", lambda: next(counts))
    monkeypatch.setattr(flags, "perf_counter_ns", lambda: next(clock))
    frozen = flags._FrozenObjects()
    assert [frozen.read(), frozen.read(), frozen.read()] == [5, 5, 7]


def test_places_that_switched_something_on(watch):
    line = sys._getframe().f_lineno + 1
    torch.autograd.set_detect_anomaly(True)
    torch.autograd.set_detect_anomaly(False)
    fact = read_flags(torch, watch)
    assert fact["anomaly_enabled"] is False
    assert (fact["anomaly_where"]["file"], fact["anomaly_where"]["line"]) == (__file__, line)
    assert "profiler_where" not in fact
    line = sys._getframe().f_lineno + 1
    with torch.profiler.profile(activities=[torch.profiler.ProfilerActivity.CPU]):
        fact = read_flags(torch, watch)
    assert fact["profiler_enabled"] is True
    assert (fact["profiler_where"]["file"], fact["profiler_where"]["line"]) == (__file__, line)


def test_warning_of_detect_anomaly_names_the_users_line(watch):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        with torch.autograd.detect_anomaly():
            pass
    assert [(w.filename) for w in caught] == [__file__]
    assert watch.anomaly_where["file"] == __file__


def test_grad_scaler_counts_once_it_scales(watch):
    scaler = torch.amp.GradScaler("cpu")
    assert read_flags(torch, watch)["grad_scaler"] is False
    scaler.scale(torch.ones(1))
    assert read_flags(torch, watch)["grad_scaler"] is True


def test_disabled_grad_scaler_does_not_count(watch):
    torch.amp.GradScaler("cpu", enabled=False).scale(torch.ones(1))
    assert read_flags(torch, watch)["grad_scaler"] is False


def test_old_torch_without_the_private_names_leaves_keys_out():
    class OldTorch:
        def set_anomaly_enabled(self, mode):
            return mode

    patches = Patches()
    old = OldTorch()
    watch = FlagWatch.install(old, patches)
    assert old.set_anomaly_enabled(True) is True
    assert watch.anomaly_where["file"] == __file__
    patches.undo()
    assert "set_anomaly_enabled" not in vars(old)


def test_cost(nanoseconds_per_call):
    assert nanoseconds_per_call(lambda: read_flags(torch), calls=50) < 100_000
