"""The hooks beside the training step: logging, saving, collections, compilation, recomputation."""

from __future__ import annotations

from importlib import import_module
from typing import Any

from ..model.records import Event
from . import guard
from .patching import Patches
from .recorder import Recorder

_MODULES = (
    "hooks_logging",
    "hooks_metrics",
    "hooks_saving",
    "hooks_deepcopy",
    "hooks_gc",
    "hooks_compile",
    "hooks_recompute",
    "hooks_scaler",
)


class Observers:
    """Installs each observer by itself: one that fails leaves the others standing."""

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder
        self._states: list[Any] = []

    def install(self, patches: Patches) -> None:
        """Calls `install(torch, recorder, patches)` of every observer module."""
        for name in _MODULES:
            state = guard.attempt(name, self._install_one, name, patches)
            if state is not None:
                self._states.append(state)

    def _install_one(self, name: str, patches: Patches) -> Any:
        module = import_module(f".{name}", __package__)
        return module.install(self._torch, self._recorder, patches)

    def uninstall(self) -> None:
        """Takes back what `Patches` does not know of (callbacks, import watches)."""
        for state in self._states:
            guard.attempt("observers", state.uninstall)

    def after_fork(self) -> None:
        """Drops what the parent had gathered."""
        self.take_events()

    def take_events(self) -> list[Event]:
        """Events gathered since the last call."""
        events: list[Event] = []
        for state in self._states:
            for name in ("take_events", "take_summary"):
                take = getattr(state, name, None)
                if take is not None:
                    events += guard.attempt("observers", take) or []
        return events
