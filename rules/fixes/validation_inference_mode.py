"""validation-inference-mode."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from types import FrameType
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.location import is_user_file
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .nested import Nested
from .root_calls import RootCalls
from .source_edit import SourceEdit, WithoutGradients

UPDATES_TO_TRUST = 2
"""After a pass without gradients, before the next passes of that place may do without a graph."""
MOST_OUTPUTS = 4_096
"""Outputs of one place that are watched; a pass with more is not trusted."""

DEPTH = 8
"""Lines of the script that tell one place from another."""


@dataclass
class _Place:
    """Where the script calls a module in evaluation mode.

    Attributes:
        outputs: Of the passes that were watched. updates: When the last of them was made.
        trusted: Its outputs are known to be read only.
    """

    outputs: list[weakref.ref[Any]] = field(default_factory=list)
    updates: int = 0
    trusted: bool = False


class ValidationInferenceMode(Fix):
    """Forwards in evaluation mode do without a graph where nobody asks for gradients of them.

    The first pass of each place that calls a module in evaluation mode runs as it is written, and
    is watched. Later ones run under `torch.no_grad()` if no backward came to any of its outputs
    until two updates later, and none of the outputs is held any more. A place is a line together
    with the lines that led to it, so that a step shared by training and validation is two. It is
    `no_grad` and not `inference_mode`, as what it returns may enter anything later.

    It is refused as soon as a gradient flows through a module in evaluation mode (fine-tuning with
    fixed statistics, adversarial examples, energies with forces), for inputs that require a
    gradient, and for outputs that cannot be looked into.
    """

    id = "validation-inference-mode"
    title = "No graph in validation"
    safety = "safe"
    parameters: Mapping[str, type] = {}
    verifies = ("step.validation_share", "down")

    def install(self, process: Process) -> None:
        """Wraps the calls of root modules, and watches backwards."""
        self._torch = torch = process.torch
        self._nested = Nested(torch.Tensor)
        self._places: dict[tuple[int, ...], _Place] = {}
        self._refused: str | None = None
        self._updates = self._watched = self._without = 0
        RootCalls(process, self._around)
        process.patches.replace(torch.autograd, "_engine_run_backward", self._engine)
        process.after_update(self._count)

    def _count(self) -> None:
        self._updates += 1

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        if self._refused is not None or module.training or not self._torch.is_grad_enabled():
            return call(*args, **kwargs)
        if any(one.requires_grad for one in self._nested.tensors((args, kwargs))):
            self._refused = "its inputs require a gradient"
            return call(*args, **kwargs)
        place = self._places.setdefault(_lines(), _Place())
        if not place.trusted:
            self._consider(place)
        if place.trusted:
            self._without += 1
            with self._torch.no_grad():
                return call(*args, **kwargs)
        result = call(*args, **kwargs)
        guard.attempt(f"fix {self.id}", self._watch, place, result)
        return result

    def _consider(self, place: _Place) -> None:
        """Whether the passes that were watched have shown that nobody wants their gradients."""
        if not place.outputs or len(place.outputs) > MOST_OUTPUTS:
            return
        if self._updates < place.updates + UPDATES_TO_TRUST:
            return
        if all(reference() is None for reference in place.outputs):
            place.trusted = True
            place.outputs.clear()

    def _watch(self, place: _Place, result: Any) -> None:
        """Has gradients that flow into the outputs tell."""
        kind = self._nested.unknown(result)
        if kind is not None:
            self._refused = f"a module gives a {kind.__qualname__}, which cannot be looked into"
            return
        self._watched += 1
        place.updates = self._updates
        for tensor in self._nested.tensors(result):
            if tensor.grad_fn is not None and len(place.outputs) <= MOST_OUTPUTS:
                place.outputs.append(weakref.ref(tensor))
                tensor.grad_fn.register_prehook(self._flows)

    def _flows(self, gradients: Any) -> None:
        self._refused = "gradients flow through a module in evaluation mode"

    def _engine(self, original: Any) -> Any:
        def _engine_run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            if self._watched and self._refused is None:
                guard.attempt(f"fix {self.id}", self._look_at_inputs, args, kwargs)
            return original(outputs, *args, **kwargs)

        return like(original, _engine_run_backward)

    def _look_at_inputs(self, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> None:
        """A gradient with respect to an output itself does not run the node behind it."""
        inputs = args[3] if len(args) > 3 else kwargs.get("inputs", ())
        asked = {id(one) for one in inputs or ()}
        places = self._places.values() if asked else ()
        if any(id(ref()) in asked for place in places for ref in place.outputs):
            self._flows(None)

    def read_back(self) -> ReadBack:
        """How many forwards ran without a graph, and how many were watched first."""
        seen = {"without_graph": self._without, "watched": self._watched}
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if self._without:
            return ReadBack(True, seen)
        if self._watched:
            return ReadBack(None, seen, "the first validation is watched only")
        return ReadBack(None, seen, "no module was called in evaluation mode with a graph yet")

    def edit(self) -> SourceEdit:
        """A decorator above the function that validates."""
        return WithoutGradients()


def _lines() -> tuple[int, ...]:
    """The lines of the script that are being run, the innermost first."""
    lines: list[int] = []
    frame: FrameType | None = sys._getframe(2)
    while frame is not None and len(lines) < 2 * DEPTH:
        if is_user_file(frame.f_code.co_filename):
            lines += [id(frame.f_code), frame.f_lineno]
        frame = frame.f_back
    return tuple(lines)
