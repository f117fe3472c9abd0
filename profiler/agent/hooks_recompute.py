"""Activation checkpointing: how often, and how long the backward computes forwards again.

`torch.utils.checkpoint.checkpoint` calls its function once in the forward and once more in the
backward. The function is handed over inside one of ours, which times every call but the first.

Measured: 2 us per checkpointed call, in scripts that use it; nothing in others.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from types import ModuleType
from typing import Any

from ..model.records import Event
from .guard import attempt
from .imports import Watch, watch
from .location import caller_location
from .patching import Patches, hide_methods_from_compiler, like
from .recorder import Recorder


class RecomputeCollector:
    """Counts checkpointed calls and times their recomputation; the agent's thread reads.

    Only the outermost of nested recomputations is timed, as it contains the others.
    """

    def __init__(self, recorder: Recorder, compiling: Callable[[], bool]) -> None:
        self._recorder = recorder
        self._compiling = compiling
        self._watch: Watch | None = None
        self._where: Any = None
        self._calls = self._recomputed = self._total_ns = 0
        self._taken = (0, 0, 0)
        self._since_ns = perf_counter_ns()
        self._inside = False

    def install(self, patches: Patches) -> None:
        """Patches `torch.utils.checkpoint` once it is imported (torch does so by itself)."""

        def patch(module: ModuleType) -> None:
            patches.replace(module, "checkpoint", self._wrap)

        self._watch = watch("torch.utils.checkpoint", patch)

    def uninstall(self) -> None:
        """Stops waiting for the import; the patch is undone by its owner."""
        if self._watch is not None:
            self._watch.remove()
            self._watch = None

    def take_events(self) -> list[Event]:
        """One event with what was counted since the last call, none if nothing was."""
        since_ns, self._since_ns = self._since_ns, perf_counter_ns()
        now = (self._calls, self._recomputed, self._total_ns)
        calls, recomputed, total_ns = (a - b for a, b in zip(now, self._taken, strict=True))
        self._taken = now
        if not calls and not recomputed:
            return []
        data = {
            "calls": calls,
            "recomputed": recomputed,
            "total_ns": total_ns,
            "where": self._where,
        }
        return [Event("recompute", since_ns, self._since_ns - since_ns, data)]

    def _wrap(self, original: Callable[..., Any]) -> Any:
        recorder = self._recorder
        compiling = self._compiling

        def checkpoint(*args: Any, **kwargs: Any) -> Any:
            if not args or compiling() or not recorder.active():
                return original(*args, **kwargs)
            self._calls += 1
            if self._where is None:
                self._where = attempt("location", caller_location)
            return original(self._timed(args[0]), *args[1:], **kwargs)

        return like(original, checkpoint)

    def _timed(self, function: Callable[..., Any]) -> Callable[..., Any]:
        first = True

        def run(*args: Any, **kwargs: Any) -> Any:
            nonlocal first
            if first or self._inside:
                first = False
                return function(*args, **kwargs)
            self._inside = True
            start_ns = perf_counter_ns()
            try:
                return function(*args, **kwargs)
            finally:
                self._inside = False
                self._recomputed += 1
                self._total_ns += perf_counter_ns() - start_ns

        return run


def install(torch: Any, recorder: Recorder, patches: Patches) -> RecomputeCollector:
    """Starts watching checkpointed calls. Undone by `uninstall()` and `patches.undo()`."""
    hide_methods_from_compiler(RecomputeCollector)
    collector = RecomputeCollector(recorder, torch.compiler.is_dynamo_compiling)
    collector.install(patches)
    return collector
