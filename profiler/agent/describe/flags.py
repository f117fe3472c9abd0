"""Switches of torch and of the interpreter that change how fast a training runs."""

from __future__ import annotations

import contextlib
import gc
import os
import sys
from time import perf_counter_ns
from typing import Any

from ...model.facts import FlagsFact, Where
from ..guard import attempt
from ..location import caller_location
from ..patching import Patches
from .naming import dtype_name

_AUTOCAST_DEVICES = ("cpu", "cuda", "xpu", "mps", "hpu")
_INITIALISED_BACKENDS = ("cuda", "xpu")  # asking whether one is available could initialise it
_SHARE_OF_TIME = 1_000  # counting frozen objects walks them all: at most 1/1000 of the time


class FlagWatch:
    """Where anomaly detection and profilers were switched on, and whether a GradScaler works.

    Attributes:
        anomaly_where, profiler_where: The user's line that switched it on last.
        grad_scaler: Whether an enabled GradScaler has scaled a loss.
    """

    def __init__(self) -> None:
        self.anomaly_where: Where | None = None
        self.profiler_where: Where | None = None
        self.grad_scaler = False

    @classmethod
    def install(cls, torch: Any, patches: Patches) -> FlagWatch:
        """Patches what runs once when each of the three is switched on; never per step."""
        watch = cls()
        patches.replace(torch, "set_anomaly_enabled", watch._around_anomaly)
        profiler = sys.modules.get("torch.autograd.profiler")
        if hasattr(profiler, "_enable_profiler"):
            patches.replace(profiler, "_enable_profiler", watch._around_profiler)
        scaler = getattr(getattr(torch, "amp", None), "GradScaler", None)
        if hasattr(scaler, "_lazy_init_scale_growth_tracker"):
            patches.replace(scaler, "_lazy_init_scale_growth_tracker", watch._around_scaler)
        return watch

    # The user meets these functions inside torch only, never in a traceback of a mistake or as
    # the place of a warning, as would be the case with the constructors that call them.

    def _around_anomaly(self, original: Any) -> Any:
        def set_anomaly_enabled(*args: Any, **kwargs: Any) -> Any:
            if (args and args[0]) or kwargs.get("enabled"):
                self.anomaly_where = attempt("location", caller_location)
            return original(*args, **kwargs)

        return set_anomaly_enabled

    def _around_profiler(self, original: Any) -> Any:
        def _enable_profiler(*args: Any, **kwargs: Any) -> Any:
            self.profiler_where = attempt("location", caller_location)
            return original(*args, **kwargs)

        return _enable_profiler

    def _around_scaler(self, original: Any) -> Any:
        def _lazy_init_scale_growth_tracker(scaler: Any, *args: Any, **kwargs: Any) -> Any:
            self.grad_scaler = True
            return original(scaler, *args, **kwargs)

        return _lazy_init_scale_growth_tracker


class _FrozenObjects:
    """`gc.get_freeze_count` walks all frozen objects, so a long count is not repeated often."""

    def __init__(self) -> None:
        self._count = 0
        self._next_ns = 0

    def read(self) -> int:
        start_ns = perf_counter_ns()
        if start_ns >= self._next_ns:
            self._count = gc.get_freeze_count()
            end_ns = perf_counter_ns()
            self._next_ns = end_ns + _SHARE_OF_TIME * (end_ns - start_ns)
        return self._count


_frozen = _FrozenObjects()


def read_flags(torch: Any, watch: FlagWatch | None = None) -> FlagsFact:
    """The payload of Fact "flags"; to be called in the training thread (autocast is its own).

    Measured: about 15 us. `accelerator` is the one the script has initialised, not the one that
    might be there: asking the driver would initialise it and break a later fork.
    """
    fact: FlagsFact = {
        "num_threads": torch.get_num_threads(),
        "num_interop_threads": torch.get_num_interop_threads(),
        "cpu_count_torch": os.cpu_count() or 1,
        "anomaly_enabled": torch.is_anomaly_enabled(),
        "profiler_enabled": bool(torch.autograd._profiler_enabled()),
        "deterministic_algorithms": torch.are_deterministic_algorithms_enabled(),
        "cudnn_benchmark": torch._C._get_cudnn_benchmark(),
        "cudnn_deterministic": torch._C._get_cudnn_deterministic(),
        "default_dtype": dtype_name(torch.get_default_dtype()),
        "autocast": _autocast(torch),
        "flush_denormal": _flushes_denormals(sys.float_info.min),
        "gc_enabled": gc.isenabled(),
        "gc_threshold": list(gc.get_threshold()),
        "gc_frozen": _frozen.read(),
        "tracing": sys.gettrace() is not None or sys.getprofile() is not None,
        "python_malloc": os.environ.get("PYTHONMALLOC"),
        "accelerator": accelerator_in_use(torch),
        "torch_cuda_build": torch.version.cuda or getattr(torch.version, "hip", None),
    }
    in_use = fact["accelerator"] == "cuda"
    fact["accelerator_uuids"] = attempt("device uuids", _uuids, torch) or [] if in_use else []
    with contextlib.suppress(RuntimeError):  # torch refuses where old and new switches disagree
        fact["matmul_precision"] = torch.get_float32_matmul_precision()
    if watch is not None:
        _add_watched(fact, watch)
    return fact


def accelerator_in_use(torch: Any) -> str | None:
    """Type of the accelerator that this process has initialised, None without one."""
    for name in _INITIALISED_BACKENDS:
        backend = getattr(torch, name, None)
        if backend is not None and backend.is_initialized():
            return name
    mps = getattr(torch.backends, "mps", None)
    return "mps" if mps is not None and mps.is_available() else None


def _uuids(torch: Any) -> list[str]:
    """UUIDs of the devices that torch sees, as NVML tells them; properties are kept by torch.

    Asking for them neither starts work on a device nor waits for any.
    """
    found = (torch.cuda.get_device_properties(i) for i in range(torch.cuda.device_count()))
    return [str(getattr(properties, "uuid", "")) for properties in found]


def _add_watched(fact: FlagsFact, watch: FlagWatch) -> None:
    fact["grad_scaler"] = watch.grad_scaler
    if watch.anomaly_where is not None:
        fact["anomaly_where"] = watch.anomaly_where
    if watch.profiler_where is not None:
        fact["profiler_where"] = watch.profiler_where


def _autocast(torch: Any) -> dict[str, str]:
    return {
        device: dtype_name(torch.get_autocast_dtype(device))
        for device in _AUTOCAST_DEVICES
        if torch.is_autocast_enabled(device)
    }


def _flushes_denormals(smallest_normal: float) -> bool:
    """Torch has no getter, but its switch is the thread's own and holds for Python's floats."""
    return smallest_normal / 2.0 == 0.0
