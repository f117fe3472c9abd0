"""Output channels that give nothing: never active behind a ReLU, or with weights of zero.

On at most one step every quarter of a second (one in ten seconds later on) a global module hook
listens from one backward to the next. Where the graph of what a module is given leads through a
ReLU to a layer, it counts which channels are above zero, in a part of the rows and positions; so a
ReLU is seen whether it is a module or a function. Weights are read on the agent's thread, a part of
each row. All of it only where the layers lie on the CPU.

Costs 50 to 150 us per layer behind which a ReLU stands, on a sampled step; the pace keeps that
below 0.2 % of the time.
"""

from __future__ import annotations

import weakref
from collections import deque
from collections.abc import Sequence
from time import perf_counter_ns
from typing import Any

from ..model.facts import UnitsFact
from .backward_watch import BackwardWatch
from .compiled import has_compiled
from .guard import attempt
from .pace import PART_OF_TIME, Pace
from .recorder import Recorder

FIRST_UPDATE = 100
"""Nothing is sampled before: what is not active at the start may yet become so."""
BLOCK = 8
"""Sampled steps that are counted together; a channel counts as dead by the last two such blocks, or
by so many more as `ENOUGH_VALUES` of it take."""
MOST_BLOCKS = 8
ENOUGH_VALUES = 1_000
QUICK_STEPS = 64
"""Sampled as fast as the pace allows, later one in `CALM_NS`."""
STEPS_WITHOUT_RELU = 4
"""After so many the network is thought to have none, and is sampled as seldom."""
CALM_NS = 10_000_000_000
CALL_NS = 1_000
"""What a module's call takes longer for there being a hook."""
MOST_LAYERS = 64
MOST_ELEMENTS = 131_072
"""Of a layer's output, on one sampled step."""
MOST_WEIGHTS = 32_768
"""Elements of a layer that are read at first; more would occupy further threads."""
MOST_CONFIRMED = 32
"""Rows that are then read to their end."""
NO_WEIGHT = 1e-8
"""Absolute value below which a weight is as good as zero."""
RELU = "ReluBackward0"
PASSING = ("AdaptiveAvgPool", "AdaptiveMaxPool", "AvgPool", "MaxPool", "NativeDropout", "View")
"""Beginnings of the names of nodes behind a ReLU that leave a channel as active as it was."""
DEEPEST = 4
"""Nodes that are followed from what a module is given to the ReLU."""


class DeadUnits:
    """Asked by the agent's thread, listens around backwards (see backward_watch.py).

    Args:
        torch: The user's torch.
        recorder: Tells which thread trains, and counts the updates.
        backwards: Samples steps.
    """

    collector = "dead units"

    def __init__(self, torch: Any, recorder: Recorder, backwards: BackwardWatch) -> None:
        self._torch = torch
        self._recorder = recorder
        self._backwards = backwards
        self._handle: Any = None
        self.after_fork()

    def after_fork(self) -> None:
        """Begins anew: a child looks for itself."""
        self.stop()
        self._layers: dict[int, _Layer] = {}
        self._followers: dict[int, weakref.ref[Any]] = {}
        self._pace = Pace()
        self._sparse = False
        self._any_relu = False
        self._due = False  # a step is to be sampled
        self._steps = 0
        self._next_ns = self._spent_ns = 0
        self._block_began = 0  # at this update
        self._blocks = self._told_blocks = 0
        self._made: dict[Any, _Layer] = {}  # by the node of the graph, while a window is open

    def stop(self) -> None:
        """Leaves torch as it was."""
        if self._handle is not None:
            self._handle.remove()
            self._handle = None

    # On the agent's thread.

    def look(self, models: Sequence[Any]) -> UnitsFact | None:
        """What is known; None where there is nothing to watch, and nothing new."""
        if has_compiled():
            return None
        if self._pace.due() or self._recorder.closed:
            with self._pace:
                self._find(models)
                for layer in list(self._layers.values()):
                    layer.read_weights(self._torch)
        new = self._blocks != self._told_blocks or self._recorder.closed or self._sparse
        if not new or not (self._layers or self._sparse):
            return None
        self._told_blocks = self._blocks
        return {
            "sparse": self._sparse,
            "layers": [layer.describe() for layer in list(self._layers.values())],
            "sampled_steps": self._steps,
            "last_update": self._recorder.updates,
        }

    def tick(self) -> None:
        """Asks for another step, if it is time; a few times a second."""
        early = self._recorder.updates < FIRST_UPDATE
        if self._layers and not (early or self._sparse) and perf_counter_ns() >= self._next_ns:
            self._due = True
            self._backwards.ask(self)

    @property
    def _quick(self) -> bool:
        """Whether steps are still sampled as fast as the pace allows."""
        most = QUICK_STEPS if self._any_relu else STEPS_WITHOUT_RELU
        return self._steps < most

    def _find(self, models: Sequence[Any]) -> None:
        """The layers to watch, the largest of them; none where zeros are there by design."""
        nn = self._torch.nn
        kinds = (nn.modules.conv._ConvNd, nn.Linear)
        norms = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)
        found: list[_Layer] = []
        for model in models:
            for name, module in model.named_modules():
                if isinstance(module, norms):
                    self._followers[id(module)] = weakref.ref(module)
                elif isinstance(module, kinds) and id(module) not in self._layers:
                    self._sparse = self._sparse or _is_sparse(module)
                    if _can_be_read(self._torch, module):
                        found.append(_Layer(name or type(module).__name__, module))
        found.sort(key=lambda layer: -layer.parameters)
        for layer in found[: max(MOST_LAYERS - len(self._layers), 0)]:
            self._layers[id(layer.module())] = layer

    # In the training thread.

    def before(self) -> None:
        """Ends a window, if one is open."""
        if self._handle is None:
            return
        began_ns = perf_counter_ns()
        self.stop()
        self._made.clear()
        self._steps += 1
        for layer in list(self._layers.values()):
            layer.end_step()
        if self._steps % BLOCK == 0:
            self._blocks += 1
            for layer in list(self._layers.values()):
                layer.end_block(self._block_began)
        now_ns = perf_counter_ns()
        self._spent_ns += now_ns - began_ns
        self._next_ns = now_ns + max(PART_OF_TIME * self._spent_ns, 0 if self._quick else CALM_NS)

    def after(self, start_ns: int, end_ns: int) -> bool:
        """Begins a window, once nobody else times this step."""
        if not self._due:
            return False
        if self._backwards.listeners > 1:
            return True
        self._due = False
        if self._steps % BLOCK == 0:
            self._block_began = self._recorder.updates
        began_ns = perf_counter_ns()
        hooks = self._torch.nn.modules.module
        self._handle = hooks.register_module_forward_hook(self._leaving)
        self._spent_ns = perf_counter_ns() - began_ns
        return True

    def _leaving(self, module: Any, args: Any, output: Any) -> None:
        began_ns = perf_counter_ns()
        attempt(self.collector, self._leave, module, args, output)
        self._spent_ns += perf_counter_ns() - began_ns + CALL_NS

    def _leave(self, module: Any, args: Any, output: Any) -> None:
        """Notes who made a tensor: a layer, or one that normalises its output."""
        if not args or not self._wanted(output):
            return
        given = args[0]
        if isinstance(module, self._torch.nn.ReLU):
            self._look_behind(output)
        elif self._wanted(given):
            self._look_behind(given)
        layer = self._layers.get(id(module))
        if layer is not None and layer.module() is module:
            layer.ran(output)
            self._made[output.grad_fn] = layer
        elif id(module) in self._followers and self._wanted(given):
            layer = self._made.get(given.grad_fn)
            if layer is not None:
                self._made[output.grad_fn] = layer

    def _look_behind(self, tensor: Any) -> None:
        """Counts the channels of a layer, if a ReLU on its output is what leads to the tensor."""
        node = tensor.grad_fn
        for _ in range(DEEPEST):
            name = type(node).__name__
            if name == RELU:
                layer = self._made.get(node.next_functions[0][0])
                if layer is not None and not layer.seen_this_step:
                    layer.count(tensor.detach(), self._steps)
                    self._any_relu = True
                return
            if not name.startswith(PASSING) or not node.next_functions:
                return
            node = node.next_functions[0][0]

    def _wanted(self, tensor: Any) -> bool:
        torch = self._torch
        return (
            type(tensor) is torch.Tensor
            and tensor.grad_fn is not None
            and tensor.device.type == "cpu"
            and self._recorder.active()
            and not torch.jit.is_tracing()
        )


class _Layer:
    """A convolution or a linear layer, and what was counted of its output channels."""

    def __init__(self, name: str, module: Any) -> None:
        self.module = weakref.ref(module)
        self.name = name
        self.channels = int(module.weight.shape[0])
        self.parameters = int(module.weight.numel())
        self.row = self.parameters // max(self.channels, 1)
        self.linear = module.weight.dim() == 2
        self.seen_this_step = False
        self._kind = type(module).__name__
        self._zero_rows = 0
        self._zero_share = 0.0
        self._flops_now = self._flops = 0
        self._counts: Any = None
        self._rows = 0
        self._blocks: deque[tuple[Any, int, int]] = deque(maxlen=MOST_BLOCKS)

    # In the training thread.

    def ran(self, output: Any) -> None:
        """It was called: two operations for each weight of a channel and each element it gives."""
        self._flops_now += 2 * self.row * int(output.numel())

    def count(self, output: Any, shift: int) -> None:
        """Looks at a part of its output, at other rows and positions each time."""
        self.seen_this_step = True
        if not self.linear and output.dim() == 2 and output.shape[1] % self.channels == 0:
            output = output.unflatten(1, (self.channels, -1))  # it was flattened
        last = output.dim() - 1
        if not last or output.shape[last if self.linear else 1] != self.channels:
            return
        others = tuple(range(last)) if self.linear else (0, *range(2, last + 1))
        part = output[_slices(output.shape, others, shift)]
        active = (part != 0).sum(dim=others)
        self._counts = active if self._counts is None else self._counts + active
        self._rows += int(part.numel()) // self.channels

    def end_step(self) -> None:
        """Its window is over."""
        self.seen_this_step = False
        self._flops = self._flops_now or self._flops
        self._flops_now = 0

    def end_block(self, began: int) -> None:
        """Counts begin anew; a block knows at which update it began."""
        if self._counts is not None:
            self._blocks.append((self._counts, self._rows, began))
        self._counts, self._rows = None, 0

    # On the agent's thread.

    def read_weights(self, torch: Any) -> None:
        """Rows of zeros, and zeros wherever they are: from a part of each row."""
        module = self.module()
        if module is None or module.weight.numel() != self.parameters:
            return
        weight = module.weight.detach()
        if not weight.is_contiguous():
            return
        rows = weight.view(self.channels, self.row)
        step = max(1, -(-self.parameters // MOST_WEIGHTS))
        zeros = rows[:, ::step].abs() < NO_WEIGHT
        self._zero_share = float(zeros.sum()) / max(zeros.numel(), 1)
        empty = zeros.all(dim=1).nonzero().flatten().tolist()
        chosen = empty[:: max(1, -(-len(empty) // MOST_CONFIRMED))]
        sure = sum(bool((rows[row].abs() < NO_WEIGHT).all()) for row in chosen)
        self._zero_rows = round(len(empty) * sure / len(chosen)) if chosen else 0

    def describe(self) -> dict[str, object]:
        """Its part of the fact; what was not seen is left out."""
        data: dict[str, object] = {
            "name": self.name,
            "type": self._kind,
            "channels": self.channels,
            "parameters": self.parameters,
            "flops": self._flops,
            "zero_rows": self._zero_rows,
            "zero_share": round(self._zero_share, 4),
        }
        counts, values, chosen = None, 0, 0
        for block in reversed(list(self._blocks)):
            if chosen >= 2 and values >= ENOUGH_VALUES:
                break
            counts = block[0] if counts is None else counts + block[0]
            values, chosen = values + block[1], chosen + 1
            data["first_update"] = block[2]
        if counts is not None and chosen >= 2:
            times = sorted(counts.tolist())
            active = [count for count in times if count]
            data["never_active"] = len(times) - len(active)
            data["rows"] = values
            data["active_decile"] = active[len(active) // 10] if active else 0
        return data


def _slices(shape: Sequence[int], others: Sequence[int], shift: int) -> tuple[slice, ...]:
    """Every n-th index of the dimensions that are no channels: `MOST_ELEMENTS` at most, or so."""
    total = 1
    for length in shape:
        total *= length
    steps = [1] * len(shape)
    for dimension in reversed(others):  # positions first: rows differ more from one another
        least = 8 if dimension else 1
        wanted = -(-total // MOST_ELEMENTS)
        steps[dimension] = max(1, min(wanted, shape[dimension] // least))
        total = total // steps[dimension]
    return tuple(slice(shift % step if step > 1 else None, None, step) for step in steps)


def _is_sparse(module: Any) -> bool:
    """Whether zeros are there by design: pruned, masked or parametrized weights."""
    masked = any("mask" in name for name in module._buffers)
    return masked or "weight_orig" in module._parameters or "parametrizations" in module._modules


def _can_be_read(torch: Any, module: Any) -> bool:
    weight = module._parameters.get("weight")
    return (
        type(weight) is torch.nn.Parameter
        and weight.requires_grad
        and weight.device.type == "cpu"
        and weight.layout == torch.strided
        and weight.dim() >= 2
        and not getattr(module, "transposed", False)
    )
