"""Torch's C++ profiler (Kineto), opened and stopped in the training thread.

Without its Python layer (`torch.profiler.profile`), which needs 40 us an event to read.
"""

from __future__ import annotations

import contextlib
import os
import re
import sys
import time
from collections.abc import Callable, Iterable
from threading import get_ident
from typing import Any

from . import guard

LOG_LEVEL = "KINETO_LOG_LEVEL"
_SILENT = "6"  # above Kineto's highest level: it prints two lines to stderr at each window
_PROFILING = re.compile(r"torch\.profiler|autograd\.profiler|import profiler|emit_(?:nvtx|itt)\b")
USED_BY_SCRIPT = "the script uses torch's profiler itself"


class Kineto:
    """One recording at a time.

    Args:
        torch: The user's torch.
        gave_way: Called, in the thread that opened, when the script starts a profiler of its own
            meanwhile; it has to stop ours.

    Attributes:
        opened_in: Ident of the thread that opened, 0 while nothing is open.
        opened_ns: When it was open. open_cost_ns, stop_cost_ns: What opening and stopping took.
    """

    def __init__(self, torch: Any, gave_way: Callable[[], None]) -> None:
        self._torch = torch
        self._gave_way = gave_way
        self._restore: Callable[[], None] | None = None
        self.opened_in = 0
        self.opened_ns = self.open_cost_ns = self.stop_cost_ns = 0

    def open(self, activities: Iterable[Any] = ()) -> bool:
        """Opens it, for operators of the calling thread and its backwards; False if one is open.

        Args:
            activities: Of devices, beside the CPU's.
        """
        torch = self._torch
        if torch.autograd._profiler_enabled():
            return False
        profiler = torch._C._profiler
        wanted = {profiler.ProfilerActivity.CPU, *activities}
        config = profiler.ProfilerConfig(
            profiler.ProfilerState.KINETO,
            True,  # shapes
            False,  # memory
            False,  # stacks
            False,  # flops
            False,  # modules
            profiler._ExperimentalConfig(),
            "",
        )
        start_ns = time.perf_counter_ns()
        silence = LOG_LEVEL not in os.environ
        if silence:
            os.environ[LOG_LEVEL] = _SILENT  # Kineto reads it once, when it first starts
        try:
            torch.autograd._prepare_profiler(config, wanted)
        finally:
            if silence:
                del os.environ[LOG_LEVEL]
        self._make_way()
        torch.autograd._enable_profiler(config, wanted)
        self.opened_in = get_ident()
        self.opened_ns = time.perf_counter_ns()
        self.open_cost_ns = self.opened_ns - start_ns
        return True

    def stop(self) -> Any:
        """Stops it, in the thread that opened it; gives torch's result."""
        start_ns = time.perf_counter_ns()
        self.opened_in = 0
        if self._restore is not None:
            self._restore()
            self._restore = None
        result = self._torch.autograd._disable_profiler()
        self.stop_cost_ns = time.perf_counter_ns() - start_ns
        return result

    def _make_way(self) -> None:
        """A profiler that the script starts meanwhile stops ours first: one of two is lost."""
        module: Any = sys.modules["torch.autograd.profiler"]
        original = module._prepare_profiler

        def _prepare_profiler(*args: Any, **kwargs: Any) -> Any:
            guard.attempt("operators", self._gave_way)
            return original(*args, **kwargs)

        def restore() -> None:
            if module._prepare_profiler is _prepare_profiler:
                module._prepare_profiler = original

        module._prepare_profiler = _prepare_profiler
        self._restore = restore


def import_annotations() -> None:
    """Imports what torch's first annotation (an optimizer's step) would, while no profiler runs.

    A profiler with stacks keeps the place of a code's name, not the name. Of a module that is
    imported meanwhile the code is gone when names are read: they are wrong, or no text at all, of
    which `profile.events()` dies. Without us that is rare; our objects fill the place more often.
    """
    annotations = getattr(sys.modules.get("torch.autograd.profiler"), "_maybe_cupti_monitor", None)
    if annotations is not None:
        annotations()


def save_trace(result: Any, path: str) -> int | None:
    """Saves a trace; its size in bytes, None where it did not become whole."""
    temporary = f"{path}.part"
    try:
        result.save(temporary)
        with open(temporary, "rb") as file:
            size = file.seek(0, os.SEEK_END)
            file.seek(max(size - 64, 0))
            whole = file.read().rstrip().endswith(b"}")
        if whole:
            os.replace(temporary, path)
            return size
        os.unlink(temporary)
    except OSError:
        with contextlib.suppress(OSError):
            os.unlink(temporary)
    return None


def why_not_open(torch: Any, *, used: bool) -> str | None:
    """Why Kineto is left alone in this process; None where it may be opened.

    Args:
        torch: The user's torch.
        used: The script has started a profiler of torch's.
    """
    if not hasattr(torch.autograd, "_disable_profiler"):
        return "this torch has no profiler that could be opened for one step"
    if used or script_profiles():
        return USED_BY_SCRIPT
    if os.environ.get(LOG_LEVEL, _SILENT) != _SILENT:
        return f"{LOG_LEVEL} is set, so that the profiler would print into the script's stderr"
    return None


def script_profiles() -> bool:
    """Whether the main script's text names torch's profiler."""
    path = getattr(sys.modules.get("__main__"), "__file__", None)
    if not isinstance(path, str):
        return False
    try:
        with open(path, encoding="utf-8", errors="replace") as source:
            return _PROFILING.search(source.read(1_000_000)) is not None
    except OSError:
        return False
