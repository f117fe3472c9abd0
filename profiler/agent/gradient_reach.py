"""How long a backward goes on after the last gradient that anybody uses.

On a few backwards a second, and only in a training with trainable parameters that no optimizer
moves, the parameters that are moved get a hook that notes when their gradient was accumulated.
What the backward does after the last of them is work for gradients that nothing reads.

Costs nothing on all other backwards: the engine's entry is wrapped just before a sampled backward,
by the agent's thread, and given back at its end. Hooks are added to parameters and removed in the
training thread, outside the engine, which reads them without a lock.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from time import perf_counter_ns
from typing import Any

from . import guard
from .patching import like
from .recorder import Recorder

BACKWARDS_A_LOOK = 4
"""Sampled in a row, once a second."""
MOST_WATCHED = 2_000
"""Parameters that get a hook in the first sample; about 2 us each, once."""
LATEST = 4
"""From then on only those are watched whose gradient came last."""
MOST_SAMPLES = 64


class GradientReach:
    """Samples backwards.

    Args:
        torch: The user's torch.
        recorder: Tells which thread trains.

    Attributes:
        samples: Pairs of the nanoseconds a backward took and those after the last useful gradient.
    """

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder
        self.samples: deque[tuple[int, int]] = deque(maxlen=MOST_SAMPLES)
        self._original: Any = None
        self._wrapper: Any = None
        self._watchable = -1
        self._watched: list[weakref.ref[Any]] = []
        self._narrowed = False  # to the gradients that come last
        self._left = 0
        self._arrivals: list[tuple[int, Any]] = []
        self._open = False

    def look(self, moved: Iterable[Any]) -> None:
        """Samples the next backwards; `moved` are the parameters that optimizers move."""
        if self._wrapper is not None or not hasattr(self._torch.autograd, "_engine_run_backward"):
            return
        watchable = [p for p in moved if p.requires_grad and p.is_leaf]
        if len(watchable) != self._watchable:  # the first look, or another set than before
            self._watchable = len(watchable)
            self._watched = [weakref.ref(p) for p in watchable[:MOST_WATCHED]]
            self._narrowed = False
            self.samples.clear()
        self._left = BACKWARDS_A_LOOK
        self._original = self._torch.autograd._engine_run_backward
        self._wrapper = like(self._original, self._wrap(self._original))
        self._torch.autograd._engine_run_backward = self._wrapper

    def stop(self) -> None:
        """Gives the engine's entry back, unless somebody has wrapped ours meanwhile."""
        autograd = self._torch.autograd
        if self._wrapper is not None and autograd._engine_run_backward is self._wrapper:
            autograd._engine_run_backward = self._original
        self._wrapper = None

    def _wrap(self, original: Any) -> Any:
        recorder = self._recorder

        def _engine_run_backward(*args: Any, **kwargs: Any) -> Any:
            if self._open or self._left <= 0 or not recorder.active():
                return original(*args, **kwargs)
            handles = guard.attempt("gradient reach", self._begin)
            start_ns = perf_counter_ns()
            try:
                return original(*args, **kwargs)
            finally:
                end_ns = perf_counter_ns()
                guard.attempt("gradient reach", self._end, handles or [], start_ns, end_ns)

        return _engine_run_backward

    def _begin(self) -> list[tuple[Any, Any]]:
        self._open = True
        self._arrivals = []
        watched = [p for reference in self._watched if (p := reference()) is not None]
        return [(p, p.register_post_accumulate_grad_hook(self._arrived)) for p in watched]

    def _arrived(self, parameter: Any) -> None:
        self._arrivals.append((perf_counter_ns(), parameter))

    def _end(self, handles: list[tuple[Any, Any]], start_ns: int, end_ns: int) -> None:
        for parameter, handle in handles:
            handle.remove()
            if not parameter._post_accumulate_grad_hooks:
                parameter._post_accumulate_grad_hooks = None
        if self._arrivals:  # none in torch.autograd.grad(), which accumulates nothing
            if self._narrowed:  # the first sample has too many hooks to be a fair one
                self.samples.append((end_ns - start_ns, end_ns - self._arrivals[-1][0]))
            else:
                self._watched = [weakref.ref(p) for _, p in self._arrivals[-LATEST:]]
                self._narrowed = True
            self._left -= 1
        self._arrivals = []
        self._open = False
        if self._left <= 0:
            self.stop()
