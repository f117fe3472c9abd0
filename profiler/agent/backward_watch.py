"""Being called around a few chosen backwards, in the training thread, at no cost on the others.

The engine's entry is wrapped by the agent's thread when somebody asks, and given back in the
training thread when everybody has seen enough.
"""

from __future__ import annotations

import threading
from time import perf_counter_ns
from typing import Any, Protocol

from . import guard
from .patching import like
from .recorder import Recorder


class Listener(Protocol):
    """Is called around the next backwards.

    Attributes:
        collector: Name under which it is disabled if it raises.
    """

    collector: str

    def before(self) -> None:
        """A backward is about to begin."""

    def after(self, start_ns: int, end_ns: int) -> bool:
        """It has ended; returns whether the listener wants the next one as well."""


class BackwardWatch:
    """Wraps the autograd engine's entry for as long as somebody listens.

    Args:
        torch: The user's torch.
        recorder: Tells which thread trains.

    Attributes:
        outputs: What the backward under way was called on, while listeners are called before it.
    """

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder
        self._lock = threading.Lock()
        self._listeners: list[Listener] = []
        self._original: Any = None
        self._wrapper: Any = None
        self._open = False
        self.outputs: Any = None

    def ask(self, listener: Listener) -> None:
        """Calls `listener` around the next backwards of the training thread."""
        autograd = self._torch.autograd
        if not hasattr(autograd, "_engine_run_backward"):  # a private name
            return
        with self._lock:
            if listener not in self._listeners:
                self._listeners.append(listener)
            if self._wrapper is None:
                self._original = autograd._engine_run_backward
                self._wrapper = like(self._original, self._wrap(self._original))
                autograd._engine_run_backward = self._wrapper

    @property
    def listeners(self) -> int:
        """How many listen just now."""
        return len(self._listeners)

    def stop(self) -> None:
        """Gives the engine's entry back, unless somebody has wrapped ours meanwhile."""
        with self._lock:
            self._listeners.clear()
            self._unwrap()

    def _unwrap(self) -> None:
        autograd = self._torch.autograd
        if self._wrapper is not None and autograd._engine_run_backward is self._wrapper:
            autograd._engine_run_backward = self._original
        self._wrapper = None

    def _wrap(self, original: Any) -> Any:
        recorder = self._recorder

        def _engine_run_backward(*args: Any, **kwargs: Any) -> Any:
            if self._open or not self._listeners or not recorder.active():
                return original(*args, **kwargs)
            self._open = True  # checkpointing runs a backward inside the backward
            listeners = list(self._listeners)
            self.outputs = args[0] if args else None
            for listener in listeners:
                guard.attempt(listener.collector, listener.before)
            self.outputs = None
            start_ns = perf_counter_ns()
            try:
                return original(*args, **kwargs)
            finally:
                end_ns = perf_counter_ns()
                self._open = False
                guard.attempt("backward watch", self._ended, listeners, start_ns, end_ns)

        return _engine_run_backward

    def _ended(self, listeners: list[Listener], start_ns: int, end_ns: int) -> None:
        done = [
            one
            for one in listeners
            if not guard.attempt(one.collector, one.after, start_ns, end_ns)
        ]
        with self._lock:
            self._listeners = [one for one in self._listeners if one not in done]
            if not self._listeners:
                self._unwrap()
