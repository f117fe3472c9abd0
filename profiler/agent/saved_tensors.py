"""What a forward has worked on, read from the graph that it left for the backward.

A node of the graph holds the tensors that its backward needs, mostly the inputs of the operator.
Reading them changes nothing, where nobody has hooks on them (activation checkpointing has: reading
would compute the forward again). To be called in the training thread, before the backward, which
drops them.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Any

from .drawn import drawn
from .spread_elements import is_in_memory

MOST_NODES = 2_000
"""Of a graph, from the loss on; 2 us each."""
_RAW = "_raw_saved_"
_FACTORS = {
    "AddmmBackward0": (("mat1", 1), ("mat2", 2)),
    "MmBackward0": (("self", 0), ("mat2", 1)),
}
"""Of a product, with their places among its inputs."""


@dataclass(frozen=True, slots=True)
class SavedOperator:
    """One operator of the forward.

    Attributes:
        name: Of its node, as "AddmmBackward0".
        node: The node; `_saved_*` of it that are no tensors may be read.
        tensors: What it saved, by name without "_saved_"; of a product both factors.
    """

    name: str
    node: Any
    tensors: dict[str, Any]


def saved_operators(torch: Any, outputs: Any, most: int) -> tuple[list[SavedOperator], float]:
    """Some of the operators behind `outputs`, and how many of them each stands for.

    Those that saved no tensor are left out.
    """
    attributes: dict[type, list[str]] = {}
    savers = []
    for node in _nodes(outputs):
        kind = type(node)
        if kind not in attributes:
            attributes[kind] = [name for name in dir(kind) if name.startswith(_RAW)]
        if attributes[kind]:
            savers.append(node)
    chosen, count = drawn(savers, most)
    operators = [_operator(torch, node, attributes[type(node)]) for node in chosen]
    return [one for one in operators if one.tensors], count


def _nodes(outputs: Any) -> list[Any]:
    """The nodes of a graph, from the loss on."""
    roots = outputs if isinstance(outputs, (tuple, list)) else (outputs,)
    nodes = [node for root in roots if (node := getattr(root, "grad_fn", None)) is not None]
    seen = set(nodes)
    for node in nodes:  # grows meanwhile
        for following, _ in node.next_functions:
            if following is not None and following not in seen and len(seen) < MOST_NODES:
                seen.add(following)
                nodes.append(following)
    return nodes


def _operator(torch: Any, node: Any, attributes: Iterable[str]) -> SavedOperator:
    name = type(node).__name__
    tensors = _tensors(torch, node, attributes)
    for factor, place in _FACTORS.get(name, ()) if tensors else ():
        if factor not in tensors and (leaf := _leaf_behind(node, place)) is not None:
            tensors[factor] = leaf
    return SavedOperator(name, node, tensors)


def _tensors(torch: Any, node: Any, attributes: Iterable[str]) -> dict[str, Any]:
    """The tensors of a node of torch's own that nobody has hooks on."""
    found = {}
    for attribute in attributes:
        try:
            raw = getattr(node, attribute)
            if getattr(raw, "unpack_hook", raw) is not None:  # older torch does not tell
                continue
            tensor = getattr(node, attribute[len("_raw") :])
        except RuntimeError:  # released, or changed in place since
            continue
        if isinstance(tensor, torch.Tensor):
            found[attribute[len(_RAW) :]] = tensor.detach()
    return found


def _leaf_behind(node: Any, place: int) -> Any:
    """The parameter that an operator was given as its input number `place`, as it was given.

    A product saves its weights only where its other input needs a gradient.
    """
    inputs = node.next_functions
    following: Any = inputs[place][0] if place < len(inputs) else None
    variable = getattr(following, "variable", None)
    turned = variable is None and type(following).__name__ == "TBackward0"
    if turned:
        variable = getattr(following.next_functions[0][0], "variable", None)
    if variable is None or not is_in_memory(variable):
        return None
    return variable.detach().t() if turned else variable.detach()
