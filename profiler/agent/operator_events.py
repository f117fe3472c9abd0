"""From the profiler's tree of events of one step to a compact table of its operators.

Read on the agent's thread, from `_ProfilerResult.experimental_event_tree()`: 3 to 6 us an event,
where the profiler's own `events()` takes 40.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from ..model.facts import OperatorsFact

FORWARD, BACKWARD, BEFORE_UPDATE, OPTIMIZER, ZERO_GRAD, BETWEEN, LOADER = ZONES = (
    "forward",
    "backward",
    "before_update",
    "optimizer",
    "zero_grad",
    "between",
    "loader",
)
"""Where in the step an operator runs. `before_update` lies between a backward and the optimizer,
`between` after the update and before the forward that follows it."""

MOST_CALLS = 20_000
"""Operators of one step that are listed; the table says when there were more."""
MOST_READS = 4
MOST_KERNELS = 200
_UNIT_NS = 100
_BACKWARD = "autograd::engine::evaluate_function: "
_BEGINNINGS = (
    (_BACKWARD, BACKWARD),
    ("Optimizer.step#", OPTIMIZER),
    ("Optimizer.zero_grad#", ZERO_GRAD),
    ("enumerate(DataLoader)#", LOADER),
)


class _Call:
    """One operator that the training thread called by itself, and what ran inside it."""

    __slots__ = ("backward_ns", "copy_ns", "kernels", "node", "sequences", "zone")

    def __init__(self, node: Any, zone: str) -> None:
        self.node = node
        self.zone = zone
        self.backward_ns = 0
        self.copy_ns = 0
        self.sequences: list[int] = []
        self.kernels: list[tuple[str, int]] = []  # name, self time


def reduce_tree(
    roots: Iterable[Any], parameters: Iterable[int] = (), gradients: Iterable[int] = ()
) -> OperatorsFact:
    """The table of a window that held one step.

    Args:
        roots: Events without a parent, in order of time.
        parameters: Storage addresses of the trained parameters.
        gradients: And of their gradients.
    """
    calls = _calls_of_training_thread(roots)
    for call in calls:
        _walk(call.node, call)
    _add_backward(calls)
    _name_zones(calls)
    table = _Table()
    for call in calls[:MOST_CALLS]:
        table.add(call)
    table.add_kernels(calls)
    return table.finish(parameters, gradients, truncated=len(calls) > MOST_CALLS)


def _calls_of_training_thread(roots: Iterable[Any]) -> list[_Call]:
    """Top-level operators of the thread that runs the optimizer."""
    events = [root for root in roots if hasattr(root.extra_fields, "sequence_number")]
    threads = [event.start_tid for event in events if event.name.startswith("Optimizer.step#")]
    thread = threads[0] if threads else (events[0].start_tid if events else 0)
    return [_Call(event, _zone(event.name)) for event in events if event.start_tid == thread]


def _zone(name: str) -> str:
    return next((zone for start, zone in _BEGINNINGS if name.startswith(start)), "")


def _walk(node: Any, call: _Call) -> int:
    """Notes what runs inside a call; gives the node's duration."""
    fields = node.extra_fields
    sequence = getattr(fields, "sequence_number", None)
    if sequence is None:  # an allocation, not an operator
        return 0
    duration: int = node.duration_time_ns
    if sequence >= 0:
        call.sequences.append(sequence)
    name = node.name
    if name == "aten::copy_" and _rearranges(fields.inputs):
        call.copy_ns += duration
    inner = sum(_walk(child, call) for child in node.children)
    call.kernels.append((name, max(duration - inner, 0)))
    return duration


def _rearranges(inputs: Sequence[Any]) -> bool:
    """Whether a copy brings the elements of a tensor into another order in memory."""
    tensors = [one for one in inputs[:2] if hasattr(one, "strides")]
    if len(tensors) < 2 or tensors[0].dtype != tensors[1].dtype:
        return False
    target, source = tensors
    if 0 in source.strides:  # it is spread, not rearranged
        return False
    return not (_is_contiguous(source) and _is_contiguous(target))


def _is_contiguous(tensor: Any) -> bool:
    expected = 1
    for size, stride in zip(reversed(tensor.sizes), reversed(tensor.strides), strict=False):
        if size != 1 and stride != expected:
            return False
        expected *= size
    return True


def _add_backward(calls: Iterable[_Call]) -> None:
    """Gives each forward operator the time of the backward nodes that it made.

    An operator that makes no node carries the number of the next one that does: a number belongs
    to the last operator that carries it.
    """
    owners: dict[int, _Call] = {}
    for call in calls:
        if call.zone == BACKWARD:
            owner = owners.get(call.node.extra_fields.sequence_number)
            if owner is not None:
                owner.backward_ns += call.node.duration_time_ns
        elif not call.zone:
            owners.update(dict.fromkeys(call.sequences, call))


def _name_zones(calls: Sequence[_Call]) -> None:
    """Gives each plain operator the zone that its neighbours leave for it."""
    anchors = [FORWARD if call.backward_ns else call.zone for call in calls]
    before = ""
    for call, anchor, coming in zip(calls, anchors, _next_anchors(anchors), strict=True):
        if anchor in (FORWARD, BACKWARD, OPTIMIZER):
            before = anchor
        if anchor:
            call.zone = anchor
        elif coming == OPTIMIZER and before == BACKWARD:
            call.zone = BEFORE_UPDATE
        elif coming == BACKWARD or (coming == FORWARD and before == FORWARD):
            call.zone = FORWARD
        else:
            call.zone = BETWEEN


def _next_anchors(anchors: Sequence[str]) -> list[str]:
    """For each place, what comes next of forward, backward and update."""
    following = [""] * len(anchors)
    coming = ""
    for place in range(len(anchors) - 1, -1, -1):
        following[place] = coming
        if anchors[place] in (FORWARD, BACKWARD, OPTIMIZER):
            coming = anchors[place]
    return following


class _Table:
    """The columns of the fact, each operator with its shapes named once."""

    def __init__(self) -> None:
        self._operators: dict[str, int] = {}
        self._entries: list[list[Any]] = []
        self._storages: dict[int, int] = {}
        self._columns: dict[str, list[Any]] = {
            name: []
            for name in ("operator", "zone", "start", "wall", "backward", "rearranged", "reads")
        }
        self._kernels: list[list[Any]] = []
        self._base_ns = -1

    def add(self, call: _Call) -> None:
        """One call."""
        node = call.node
        if self._base_ns < 0:
            self._base_ns = node.start_time_ns
        tensors = list(_tensors(node.extra_fields.inputs))
        row = (
            self._operator(node.name, tensors),
            ZONES.index(call.zone),
            (node.start_time_ns - self._base_ns) // _UNIT_NS,
            node.duration_time_ns // _UNIT_NS,
            call.backward_ns // _UNIT_NS,
            call.copy_ns // _UNIT_NS,
            [self._storage(one) for one in tensors[:MOST_READS]],
        )
        for column, value in zip(self._columns.values(), row, strict=True):
            column.append(value)

    def add_kernels(self, calls: Iterable[_Call]) -> None:
        """Number of calls and self time of whatever ran, by zone; the dearest lines."""
        totals: dict[tuple[str, str], list[int]] = {}
        for call in calls:
            for name, self_ns in call.kernels:
                entry = totals.setdefault((call.zone, name), [0, 0])
                entry[0] += 1
                entry[1] += self_ns
        dearest = sorted(totals.items(), key=lambda item: -item[1][1])[:MOST_KERNELS]
        self._kernels = [
            [zone, name, count, self_ns // _UNIT_NS] for (zone, name), (count, self_ns) in dearest
        ]

    def finish(
        self, parameters: Iterable[int], gradients: Iterable[int], *, truncated: bool
    ) -> OperatorsFact:
        """The fact's payload."""
        return {
            "unit_ns": _UNIT_NS,
            "zones": list(ZONES),
            "operators": self._entries,
            "calls": self._columns,
            "kernels": self._kernels,
            "parameters": self._known(parameters),
            "gradients": self._known(gradients),
            "truncated": truncated,
        }

    def _known(self, addresses: Iterable[int]) -> list[int]:
        return sorted({self._storages[one] for one in addresses if one in self._storages})

    def _operator(self, name: str, tensors: Sequence[Any]) -> int:
        shapes = [list(one.sizes) for one in tensors[:MOST_READS]]
        dtypes = [str(one.dtype).replace("torch.", "") for one in tensors[:MOST_READS]]
        name = name.removeprefix(_BACKWARD)
        key = f"{name} {shapes} {dtypes}"
        number = self._operators.get(key)
        if number is None:
            number = self._operators[key] = len(self._entries)
            self._entries.append([name, shapes, dtypes])
        return number

    def _storage(self, tensor: Any) -> int:
        address = tensor.storage_data_ptr or 0
        return self._storages.setdefault(address, len(self._storages))


def _tensors(inputs: Iterable[Any]) -> Iterable[Any]:
    """The tensors among an operator's inputs, those in lists as well."""
    for one in inputs:
        if hasattr(one, "sizes"):
            yield one
        elif isinstance(one, (list, tuple)):
            yield from _tensors(one)
