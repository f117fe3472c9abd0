"""Gradients that are filled with zeros instead of being dropped, and how long that takes.

A gradient that is dropped (`set_to_none=True`, torch's default) is another tensor in the next step;
one that is zeroed stays the same. Where they stay, `zero_grad()` is timed on a few steps a second,
from one backward to the next. In other trainings a look costs 10 us a second, and nothing else.

Gradients are read in the training thread only, between two backwards: the engine replaces them
without Python's lock, and whoever reads one at that moment brings the process down.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Iterable
from time import perf_counter_ns
from typing import Any

from ..model.facts import GradientsFact
from .backward_watch import BackwardWatch
from .patching import Patches, like
from .recorder import Recorder

WINDOWS_A_LOOK = 4
"""Sampled in a row, once a second."""
MOST_WINDOWS = 64
MOST_WATCHED = 8
"""Parameters whose gradient is looked at."""
LEAST_UPDATES = 3
"""Between two looks: in one and the same step a gradient stays anyway."""


class KeptGradients:
    """Asked by the agent's thread, looks before a backward (see backward_watch.py).

    Args:
        torch: The user's torch.
        recorder: Tells which thread trains, and counts the updates.
        backwards: Samples steps.
    """

    collector = "kept gradients"

    def __init__(self, torch: Any, recorder: Recorder, backwards: BackwardWatch) -> None:
        self._torch = torch
        self._recorder = recorder
        self._backwards = backwards
        self._patches = Patches()
        self.after_fork()

    def after_fork(self) -> None:
        """Begins anew: a child looks for itself."""
        self.stop()
        self._seen: list[tuple[weakref.ref[Any], weakref.ref[Any]]] = []
        self._seen_at = 0
        self._optimizers: list[weakref.ref[Any]] = []
        self._due = False  # a look was asked for
        self._kept: bool | None = None
        self._windows: deque[tuple[int, int]] = deque(maxlen=MOST_WINDOWS)
        self._left = 0
        self._open = False
        self._inside = False
        self._opened_ns = self._window_ns = 0

    def stop(self) -> None:
        """Leaves `zero_grad` as it was."""
        self._patches.undo()

    def look(self, optimizers: Iterable[Any]) -> GradientsFact | None:
        """What is known so far; None where gradients are dropped, or were seen once only.

        Asks for another look before the next backward.
        """
        if self._recorder.updates - self._seen_at < LEAST_UPDATES:
            return None
        self._optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
        self._due = True
        self._backwards.ask(self)
        if not self._kept:
            return {"kept": False, "samples": []} if self._windows else None
        return {"kept": True, "samples": [list(pair) for pair in list(self._windows)]}

    # In the training thread.

    def before(self) -> None:
        """Ends a window, if one is open; looks at the gradients, if that is due."""
        if self._open:
            self._open = False
            self.stop()
            self._windows.append((perf_counter_ns() - self._opened_ns, self._window_ns))
            self._left -= 1
        if self._due:
            self._due = False
            self._compare()

    def _compare(self) -> None:
        """Whether the gradients seen before are still there."""
        pairs = [(p(), gradient()) for p, gradient in self._seen]
        if pairs:
            same = [p is not None and g is not None and p.grad is g for p, g in pairs]
            self._kept = all(same) and self._kept is not False
        alive = [optimizer for one in self._optimizers if (optimizer := one()) is not None]
        self._seen = _gradients(alive)
        self._seen_at = self._recorder.updates
        if self._kept:
            self._left = WINDOWS_A_LOOK

    def after(self, start_ns: int, end_ns: int) -> bool:
        """Begins a window, if another one is wanted."""
        if self._left <= 0:
            return False
        self._open = True
        self._window_ns = 0
        self._opened_ns = start_ns
        for owner in (self._torch.optim.Optimizer, self._torch.nn.Module):
            self._patches.replace(owner, "zero_grad", self._timed)
        return True

    def _timed(self, original: Any) -> Any:
        def zero_grad(*args: Any, **kwargs: Any) -> Any:
            if self._inside or not self._recorder.active():
                return original(*args, **kwargs)
            self._inside = True
            start_ns = perf_counter_ns()
            try:
                return original(*args, **kwargs)
            finally:
                self._window_ns += perf_counter_ns() - start_ns
                self._inside = False

        return like(original, zero_grad)


def _gradients(optimizers: Iterable[Any]) -> list[tuple[weakref.ref[Any], weakref.ref[Any]]]:
    """Some parameters and their gradients, spread evenly; none of a device of its own."""
    parameters = [p for o in optimizers for group in list(o.param_groups) for p in group["params"]]
    step = max(1, len(parameters) // MOST_WATCHED)
    chosen = [(p, p.grad) for p in parameters[::step] if p.device.type == "cpu"]
    return [(weakref.ref(p), weakref.ref(g)) for p, g in chosen if g is not None]
