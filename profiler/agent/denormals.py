"""Subnormal numbers in what a training computes with, and what they cost the CPU.

A float32 below 1.2e-38 is subnormal, and takes many CPUs up to some hundred cycles each time. Now
and then a few elements of the parameters, of what the forward saved for its backward, of the
gradients and of the optimizer's state are looked at, in the training thread, between two backwards.
Where some are subnormal, operators of that step are tried with and without the CPU's switch that
takes them for zero (flush_trial.py).

A look takes 60 us for each tensor and 2 us for each node of the graph, some 20 ms in a model of
hundreds of layers and 1 ms in one of two; and at most 40 ms more where subnormals were found. The
second comes after a second, each further one waits 1.5 times as long, at most a minute. The steps
that it lengthens are left out of the timings, told by a "denormals" event.
"""

from __future__ import annotations

import sys
import weakref
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from time import perf_counter_ns
from typing import Any

from ..model.facts import DenormalsFact
from ..model.records import Event
from .backward_watch import BackwardWatch
from .compiled import has_compiled
from .drawn import drawn
from .flush_trial import FlushTrial, is_float32
from .recorder import Recorder
from .saved_tensors import saved_operators
from .spread_elements import spread_elements

FIRST_WAIT_S, LONGEST_WAIT_S, GROWTH = 1.0, 60.0, 1.5
"""Between two looks: subnormals often come late, when something has decayed for long."""
MOST_TENSORS = 64
"""Operators of the forward, and tensors of each other kind."""
ELEMENTS = 1_024
"""Of each tensor, spread evenly."""
MOST_SAMPLES = 64
_LARGEST_SUBNORMAL = 0x007FFFFF
_WITHOUT_SIGN = 0x7FFFFFFF

_UNDER_A_ROOT = ("exp_avg_sq", "max_exp_avg_sq", "square_avg", "sum")
"""State of torch's optimizers of which they take the square root: a fused one with the CPU's own
instruction, the others with a function of a library."""

PARAMETERS, OPERANDS, STATE, GRADIENTS = KINDS = (
    "parameters",
    "operands",
    "optimizer state",
    "gradients",
)


class Denormals:
    """Asked by the agent's thread, looks around backwards (see backward_watch.py).

    Args:
        torch: The user's torch.
        recorder: Tells which thread trains.
        backwards: Calls before a backward, and knows its outputs then.
    """

    collector = "denormals"

    def __init__(self, torch: Any, recorder: Recorder, backwards: BackwardWatch) -> None:
        self._torch = torch
        self._recorder = recorder
        self._backwards = backwards
        self.after_fork()

    def after_fork(self) -> None:
        """Begins anew: a child looks for itself."""
        self._models: list[weakref.ref[Any]] = []
        self._optimizers: list[weakref.ref[Any]] = []
        self._wait_s = FIRST_WAIT_S
        self._next_ns = 0
        self._opened_ns = self._queued_ns = self._step_ns = 0
        self._forward: FlushTrial | None = None
        self._update: FlushTrial | None = None
        self._counts: dict[str, list[int]] = {}
        self._worst: tuple[float, str] = (0.0, "")
        self._samples: deque[tuple[int, ...]] = deque(maxlen=MOST_SAMPLES)
        self._events: deque[Event] = deque()
        self._complete = True
        self._flushed = False
        self._fact: DenormalsFact | None = None

    def look(self, models: Sequence[Any], optimizers: Iterable[Any]) -> DenormalsFact | None:
        """What the last look has shown; None before it. Asks for another one when it is time.

        Args:
            models: Root modules whose forwards are followed by a backward.
            optimizers: All that were seen.
        """
        now = perf_counter_ns()
        if now >= self._next_ns and not has_compiled():
            self._next_ns = now + round(self._wait_s * 1e9)
            self._wait_s = min(GROWTH * self._wait_s, LONGEST_WAIT_S)
            self._models = [weakref.ref(model) for model in models]
            self._optimizers = [weakref.ref(optimizer) for optimizer in optimizers]
            self._opened_ns = 0
            self._backwards.ask(self)
        return self._fact

    def take_events(self) -> list[Event]:
        """When the training was held up, since the last call."""
        return [self._events.popleft() for _ in range(len(self._events))]

    # In the training thread.

    def before(self) -> None:
        """The first backward opens a step, the second ends it: now the graph is looked at."""
        start_ns, opened_ns = perf_counter_ns(), self._opened_ns
        if _is_watched(self._torch):
            self._opened_ns = 0
            return
        queued_ns = max(self._recorder.run_queue_ns(), 0)
        if not opened_ns:
            self._opened_ns, self._queued_ns = start_ns, queued_ns
            return
        self._step_ns = max(start_ns - opened_ns - (queued_ns - self._queued_ns), 1)
        self._counts = {kind: [0, 0] for kind in KINDS}
        self._worst = (0.0, "")
        self._flushed = sys.float_info.min / 2.0 == 0.0
        if not self._flushed:  # else subnormals are zeros for us as well
            self._forward, self._update = FlushTrial(self._torch), FlushTrial(self._torch)
            self._examine(self._forward, self._update)
        self._note(start_ns)

    def after(self, start_ns: int, end_ns: int) -> bool:
        """After the second backward its gradients are looked at, and the look is over."""
        if not self._step_ns:
            return self._opened_ns > 0
        after_ns = perf_counter_ns()
        forward, update = self._forward, self._update
        if forward is not None and update is not None:
            self._sweep(update, GRADIENTS, self._gradients())
            times = [(one.plain_ns, one.flushed_ns) for one in (forward, update)]
            self._samples.append((self._step_ns, *times[0], *times[1]))
            self._complete = forward.complete and update.complete
        self._note(after_ns)
        self._fact = self._describe()
        self._forward = self._update = None
        self._step_ns = 0
        return False

    def _note(self, start_ns: int) -> None:
        self._events.append(Event("denormals", start_ns, perf_counter_ns() - start_ns, {}))

    def _examine(self, forward: FlushTrial, update: FlushTrial) -> None:
        """The step's operators, large ones first, then what an update goes over."""
        outputs = self._backwards.outputs
        operators, count = saved_operators(self._torch, outputs, MOST_TENSORS)
        ill = []
        for operator in operators:
            found = [
                self._count(OPERANDS, operator.name, tensor) for tensor in operator.tensors.values()
            ]
            if any(found):
                ill.append(operator)
        for operator in sorted(ill, key=lambda one: -_size(one.tensors.values())):
            forward.run(operator, count)
        self._sweep(update, PARAMETERS, self._parameters())
        self._sweep(update, STATE, self._state())

    def _sweep(self, trial: FlushTrial, kind: str, listed: Iterable[tuple[str, Any, str]]) -> None:
        """Counts in tensors that an update goes over, and tries such a pass where some are ill."""
        tensors, count = drawn(list(listed), MOST_TENSORS)
        ill = [
            (tensor, operator)
            for name, tensor, operator in tensors
            if self._count(kind, name, tensor)
        ]
        for tensor, operator in sorted(ill, key=lambda pair: -pair[0].numel()):
            trial.sweep(tensor, operator, count)

    def _count(self, kind: str, name: str, tensor: Any) -> int:
        """How many of a tensor's elements, of those that are looked at, are subnormal."""
        chosen = _elements(self._torch, tensor)
        if chosen is None:
            return 0
        bits = chosen.view(self._torch.int32) & _WITHOUT_SIGN
        subnormal = (bits > 0) & (bits <= _LARGEST_SUBNORMAL)
        found = int(self._torch.count_nonzero(subnormal))
        counts = self._counts[kind]
        counts[0] += len(chosen)
        counts[1] += found
        self._worst = max(self._worst, (found / len(chosen), f"{kind}: {name}"))
        return found

    # Name, tensor, and the operator that an update applies to it, if that is no plain arithmetic.

    def _parameters(self) -> Iterator[tuple[str, Any, str]]:
        for reference in self._models:
            model = reference()
            if model is not None:
                yield from ((name, parameter, "") for name, parameter in model.named_parameters())

    def _state(self) -> Iterator[tuple[str, Any, str]]:
        for reference in self._optimizers:
            optimizer = reference()
            if optimizer is not None:
                root = "rsqrt" if optimizer.param_groups[0].get("fused") else "sqrt"
                for state in list(optimizer.state.values()):
                    for name, tensor in state.items():
                        if getattr(tensor, "ndim", 0):  # not the count of steps
                            yield name, tensor, root if name in _UNDER_A_ROOT else ""

    def _gradients(self) -> Iterator[tuple[str, Any, str]]:
        """Those of the models' parameters; only here, between two backwards."""
        for name, parameter, _ in self._parameters():
            if parameter.grad is not None:
                yield name, parameter.grad, ""

    def _describe(self) -> DenormalsFact:
        return {
            "elements": {kind: counts[0] for kind, counts in self._counts.items()},
            "subnormal": {kind: counts[1] for kind, counts in self._counts.items()},
            "worst": self._worst[1] if self._worst[0] else None,
            "worst_fraction": self._worst[0],
            "flushed": self._flushed,
            "samples": [list(sample) for sample in list(self._samples)],
            "complete": self._complete,
        }


def _is_watched(torch: Any) -> bool:
    """Whether somebody sees or changes what operators of ours do: a profiler, a mode, autocast."""
    return bool(
        torch.autograd._profiler_enabled()
        or torch._C._len_torch_dispatch_stack()
        or torch.is_autocast_enabled("cpu")
    )


def _size(tensors: Iterable[Any]) -> int:
    return sum(int(tensor.numel()) for tensor in tensors)


def _elements(torch: Any, tensor: Any) -> Any:
    """Some elements of a dense float32 tensor on the CPU, spread over its memory; else None."""
    return spread_elements(tensor, ELEMENTS) if is_float32(torch, tensor) else None
