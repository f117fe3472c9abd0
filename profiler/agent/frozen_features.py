"""What frozen layers in front of the trained ones cost, and whether they see the same rows again.

On a few steps a second, and only in a training with frozen modules, torch's global module hooks
time these modules from one backward to the next. A row of the first one's input is remembered as
the hash of a few of its elements: if the rows of later epochs are known from earlier ones, then
nothing random happens in front of the frozen layers.

Costs about 2 us per module call of a sampled step, and 1 us per row of its batch. The hooks are
global ones since those of a module would be saved with it.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Callable, Sequence
from time import perf_counter_ns
from typing import Any

from ..model.facts import FrozenFact
from .backward_watch import BackwardWatch
from .compared_values import ComparedValues
from .compiled import has_compiled
from .describe.rows import row_hashes
from .guard import attempt
from .recorder import Recorder

WINDOWS_A_LOOK = 4
"""Sampled in a row, once a second."""
MOST_WINDOWS = 64
MOST_MODULES = 256
MOST_NAMES = 12
MOST_ROWS = 8_192
"""Rows that are remembered."""
MOST_ROWS_A_BATCH = 256
RANDOM_LAYERS = ("Dropout", "BatchNorm", "DropPath", "StochasticDepth")
"""Parts of the names of layers that make another result of the same input in training mode."""


class FrozenFeatures:
    """Looks on the agent's thread, listens around backwards (see backward_watch.py).

    Args:
        torch: The user's torch.
        recorder: Tells which thread trains, and counts the updates.
        backwards: Samples steps.
        epochs: Gives the number of epochs begun so far.
    """

    collector = "frozen features"

    def __init__(
        self, torch: Any, recorder: Recorder, backwards: BackwardWatch, epochs: Callable[[], int]
    ) -> None:
        self._torch = torch
        self._recorder = recorder
        self._backwards = backwards
        self._epochs = epochs
        self._handles: list[Any] = []
        self.after_fork()

    def after_fork(self) -> None:
        """Begins anew: a child looks for itself."""
        self.stop()
        self._values = ComparedValues(self._torch)
        self._watched: dict[int, weakref.ref[Any]] = {}
        self._windows: deque[tuple[int, int]] = deque(maxlen=MOST_WINDOWS)
        self._rows = _Rows()
        self._left = 0
        self._inside = 0  # id of the frozen module that is running
        self._opened_ns = self._began_ns = self._window_ns = 0
        self._row_bytes: int | None = None

    def stop(self) -> None:
        """Takes the global hooks away."""
        while self._handles:
            self._handles.pop().remove()

    def look(self, models: Sequence[Any]) -> FrozenFact | None:
        """What is known so far; None where no module is frozen.

        Args:
            models: All root modules that were seen.
        """
        found = {id(one[1]): one for model in models for one in _outermost(model)}
        frozen = list(found.values())[:MOST_MODULES]
        if not frozen:
            return None
        parameters = [p for _, module in frozen for p in module.parameters()]
        self._values.look(parameters, self._recorder.updates)
        self._watched = {id(module): weakref.ref(module) for _, module in frozen}
        if not self._values.changed and not has_compiled():
            self._left = WINDOWS_A_LOOK
            self._backwards.ask(self)
        return {
            "modules": [name for name, _ in frozen[:MOST_NAMES]],
            "parameters": sum(int(p.numel()) for p in parameters),
            "changed": self._values.changed,
            "updates_compared": self._values.updates,
            "random_layers": _random_layers(module for _, module in frozen),
            "samples": [list(pair) for pair in list(self._windows)],
            "rows_compared": self._rows.compared,
            "rows_known": self._rows.known,
            "row_pairs": self._rows.pairs,
            "feature_bytes": self._row_bytes,
        }

    # In the training thread.

    def before(self) -> None:
        """Ends a window, if one is open."""
        if self._handles:
            self.stop()
            self._windows.append((perf_counter_ns() - self._opened_ns, self._window_ns))
            self._left -= 1

    def after(self, start_ns: int, end_ns: int) -> bool:
        """Begins a window, if another one is wanted."""
        if self._left <= 0:
            return False
        self._inside = self._window_ns = 0
        self._opened_ns = start_ns
        module = self._torch.nn.modules.module
        self._handles = [
            module.register_module_forward_pre_hook(self._entering),
            module.register_module_forward_hook(self._leaving),
        ]
        return True

    def _entering(self, module: Any, args: Any) -> None:
        attempt(self.collector, self._enter, module, args)

    def _leaving(self, module: Any, args: Any, output: Any) -> None:
        attempt(self.collector, self._leave, module, output)

    def _enter(self, module: Any, args: Any) -> None:
        if self._inside or id(module) not in self._watched or not self._recorder.active():
            return
        if not args or not isinstance(args[0], self._torch.Tensor) or args[0].requires_grad:
            return  # behind something that is trained
        self._inside = id(module)
        if not self._window_ns:
            self._rows.add(args[0], self._epochs())
        self._began_ns = perf_counter_ns()

    def _leave(self, module: Any, output: Any) -> None:
        if self._inside != id(module):
            return
        self._window_ns += perf_counter_ns() - self._began_ns
        self._inside = 0
        if isinstance(output, self._torch.Tensor) and output.dim() and len(output):
            self._row_bytes = output.numel() * output.element_size() // len(output)


class _Rows:
    """Which rows of a batch were there in an earlier epoch."""

    def __init__(self) -> None:
        self._epoch_of: dict[int, int] = {}
        self._counts: dict[int, int] = {}
        self.compared = 0
        self.known = 0
        self.pairs = 0  # of a row and a remembered one of an earlier epoch

    def add(self, batch: Any, epoch: int) -> None:
        """Compares a batch with earlier epochs, then remembers it."""
        rows = row_hashes(batch, MOST_ROWS_A_BATCH)
        earlier = sum(count for one, count in self._counts.items() if one < epoch)
        for row in rows:
            self.compared += 1
            self.pairs += earlier
            self.known += self._epoch_of.get(row, epoch) < epoch
        for row in rows:
            if len(self._epoch_of) < MOST_ROWS and row not in self._epoch_of:
                self._epoch_of[row] = epoch
                self._counts[epoch] = self._counts.get(epoch, 0) + 1


def _outermost(model: Any) -> list[tuple[str, Any]]:
    """The outermost modules with parameters of which none requires a gradient, in order."""
    found: list[tuple[str, Any]] = []
    stack = [("", model)]
    while stack:
        name, module = stack.pop()
        parameters = list(module.parameters())
        if not parameters:
            continue
        if not any(p.requires_grad for p in parameters):
            found.append((name or type(module).__name__, module))
        elif not all(p.requires_grad for p in parameters):
            children = [(f"{name}.{n}" if name else n, m) for n, m in module._modules.items()]
            stack += [child for child in reversed(children) if child[1] is not None]
    return found


def _random_layers(frozen: Any) -> list[str]:
    """Classes of the frozen layers that are in training mode although that changes the result."""
    return sorted(
        {
            type(layer).__name__
            for module in frozen
            for layer in module.modules()
            if layer.training
            and any(part in type(layer).__name__ for part in RANDOM_LAYERS)
            and getattr(layer, "p", 1) != 0
        }
    )[:MOST_NAMES]
