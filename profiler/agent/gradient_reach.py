"""How long a backward goes on after the last gradient that anybody uses.

On a few backwards a second, and only in a training with trainable parameters that no optimizer
moves, the parameters that are moved get a hook that notes when their gradient was accumulated.
What the backward does after the last of them is work for gradients that nothing reads. Hooks are
added and removed in the training thread, outside the engine, which reads them without a lock.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from time import perf_counter_ns
from typing import Any

BACKWARDS_A_LOOK = 4
"""Sampled in a row, once a second."""
MOST_WATCHED = 2_000
"""Parameters that get a hook in the first sample; about 2 us each, once."""
LATEST = 4
"""From then on only those are watched whose gradient came last."""
MOST_SAMPLES = 64


class GradientReach:
    """Listens to backwards (see backward_watch.py).

    Attributes:
        samples: Pairs of the nanoseconds a backward took and those after the last useful gradient.
    """

    collector = "gradient reach"

    def __init__(self) -> None:
        self.samples: deque[tuple[int, int]] = deque(maxlen=MOST_SAMPLES)
        self._watchable = -1
        self._watched: list[weakref.ref[Any]] = []
        self._narrowed = False  # to the gradients that come last
        self._left = 0
        self._arrivals: list[tuple[int, Any]] = []
        self._handles: list[tuple[Any, Any]] = []

    def prepare(self, moved: Iterable[Any]) -> None:
        """Expects the next backwards; `moved` are the parameters that optimizers move."""
        watchable = [p for p in moved if p.requires_grad and p.is_leaf]
        if len(watchable) != self._watchable:  # the first look, or another set than before
            self._watchable = len(watchable)
            self._watched = [weakref.ref(p) for p in watchable[:MOST_WATCHED]]
            self._narrowed = False
            self.samples.clear()
        self._left = BACKWARDS_A_LOOK

    def before(self) -> None:
        """Hooks the parameters."""
        self._arrivals = []
        for reference in self._watched:
            parameter = reference()
            if parameter is not None and parameter.requires_grad:
                handle = parameter.register_post_accumulate_grad_hook(self._arrived)
                self._handles.append((parameter, handle))

    def _arrived(self, parameter: Any) -> None:
        self._arrivals.append((perf_counter_ns(), parameter))

    def after(self, start_ns: int, end_ns: int) -> bool:
        """Unhooks them and notes a sample; the first has too many hooks to be a fair one."""
        while self._handles:
            parameter, handle = self._handles.pop()
            handle.remove()
            if not parameter._post_accumulate_grad_hooks:
                parameter._post_accumulate_grad_hooks = None
        if self._arrivals:  # none in torch.autograd.grad(), which accumulates nothing
            if self._narrowed:
                self.samples.append((end_ns - start_ns, end_ns - self._arrivals[-1][0]))
            else:
                self._watched = [weakref.ref(p) for _, p in self._arrivals[-LATEST:]]
                self._narrowed = True
            self._left -= 1
        self._arrivals = []
        return self._left > 0
