"""What an operator computes, from the sizes and types of its inputs: FLOPs, bytes, dimensions.

Counted is what the operator does: a multiplication and an addition are two FLOPs, a causal mask
halves nothing, and what is computed again (checkpointing, attention's backward) counts again. Bytes
are each input read and the output written once.
"""

from __future__ import annotations

import json
import math
from collections.abc import Iterable, Mapping
from typing import Any

import msgspec

from trainprof.profiler.traces.kernel_names import OF_TYPE

BYTES = {"fp64": 8, "fp32": 4, "tf32": 4, "fp16": 2, "bf16": 2, "fp8": 1, "int8": 1}
ATTENTION_BACKWARD = 2.5
"""Products of the backward of fused attention over those of its forward: five to two."""

MOST_DIMENSIONS = 8
LARGEST = 2**40
"""A dimension beyond it is none, and would not fit a double once multiplied."""

Shape = tuple[int, ...]
Outputs = Mapping[tuple[Shape, Shape], Shape]
"""Sizes of what a convolution gives, by those of its input and weight."""


class Work(msgspec.Struct, frozen=True):
    """What one operator does on inputs of these sizes.

    Attributes:
        flops: Multiplications and additions. elements: That it reads and writes at least.
        precision: Of its inputs; None if not known.
        dims: Rows, columns and inner length of its product; None of a convolution or attention.
        rows_are_samples: The rows are those of a batch (of a layer's forward).
        wide: Tensor cores can take it: no dimension is below 8, and a convolution has more than one
            channel a group.
    """

    flops: float
    elements: int
    precision: str | None
    dims: tuple[int, int, int] | None
    rows_are_samples: bool
    wide: bool


class _Product(msgspec.Struct, frozen=True):
    """Places of both factors among the inputs."""

    left: int
    right: int
    layer: bool = False


_PRODUCTS = {
    "aten::mm": _Product(0, 1),
    "aten::_scaled_mm": _Product(0, 1, True),
    "aten::addmm": _Product(1, 2, True),
    "aten::_addmm_activation": _Product(1, 2, True),
    "aten::bmm": _Product(0, 1),
    "aten::baddbmm": _Product(1, 2),
}
_CONVOLUTIONS = {  # places of stride and padding and dilation among the inputs
    "aten::convolution": (3, 4, 5),
    "aten::_convolution": (3, 4, 5),
    "aten::conv1d": (3, 4, 5),
    "aten::conv2d": (3, 4, 5),
    "aten::conv3d": (3, 4, 5),
    "aten::cudnn_convolution": (3, 2, 4),
    "aten::miopen_convolution": (4, 3, 5),
}
_CONVOLUTION_BACKWARDS = {  # places of gradient, input and weight
    "aten::convolution_backward": (0, 1, 2),
    "aten::cudnn_convolution_backward": (1, 0, 2),
    "aten::miopen_convolution_backward": (1, 0, 2),
}
_TRANSPOSED = 6
"""Place of that switch among the inputs of a forward; of a backward it is the next."""
_OUTPUT_MASK = {"aten::convolution_backward": 10}
_ATTENTIONS = {  # place of the queries, and products over those of a forward
    "aten::scaled_dot_product_attention": (0, 1.0),
    "aten::_scaled_dot_product_flash_attention": (0, 1.0),
    "aten::_scaled_dot_product_efficient_attention": (0, 1.0),
    "aten::_scaled_dot_product_cudnn_attention": (0, 1.0),
    "aten::_scaled_dot_product_flash_attention_backward": (1, ATTENTION_BACKWARD),
    "aten::_scaled_dot_product_efficient_attention_backward": (1, ATTENTION_BACKWARD),
    "aten::_scaled_dot_product_cudnn_attention_backward": (1, ATTENTION_BACKWARD),
}
KNOWN = frozenset({*_PRODUCTS, *_CONVOLUTIONS, *_CONVOLUTION_BACKWARDS, *_ATTENTIONS})
"""Operators whose work is known."""

_BENCHMARK = {"aten::cudnn_convolution": 6, "aten::_convolution": 9}
"""Place of the switch `torch.backends.cudnn.benchmark` among the inputs."""


class Inputs(msgspec.Struct, frozen=True):
    """The inputs of an operator; empty where the trace does not hold them.

    Attributes:
        shapes: Sizes by place; None of what is no tensor, or a list of them. precisions: By place.
        values: Of what is no tensor, as texts.
    """

    shapes: tuple[Shape | None, ...]
    precisions: tuple[str | None, ...]
    values: tuple[str, ...]


def read_inputs(sizes: str, types: str, values: str) -> Inputs:
    """From the texts of a trace; what cannot be understood is left out."""
    shapes = tuple(map(_shape, _items(sizes)))
    precisions = tuple(OF_TYPE.get(str(one)) for one in _items(types))
    return Inputs(shapes, precisions, tuple(str(one) for one in _items(values)))


def _items(text: str) -> list[Any]:
    try:
        found = json.loads(text) if text else []
    except (ValueError, RecursionError):
        return []
    return found if isinstance(found, list) else []


def _shape(found: Any) -> Shape | None:
    if not isinstance(found, list) or not 0 < len(found) <= MOST_DIMENSIONS:
        return None
    whole = all(type(one) is int and 0 <= one < LARGEST for one in found)
    return tuple(found) if whole else None


def convolution_outputs(
    operators: Iterable[tuple[str, Inputs]],
) -> dict[tuple[Shape, Shape], Shape]:
    """What convolutions give, from their backwards, whose first gradient has the same sizes.

    Layers that differ in their stride alone cannot be told apart: they are left out.
    """
    found: dict[tuple[Shape, Shape], set[Shape]] = {}
    for name, inputs in operators:
        places = _CONVOLUTION_BACKWARDS.get(name)
        if places is None:
            continue
        gradient, given, weight = (_at(inputs.shapes, place) for place in places)
        if gradient and given and weight:
            found.setdefault((given, weight), set()).add(gradient)
    return {key: next(iter(one)) for key, one in found.items() if len(one) == 1}


def work_of(name: str, inputs: Inputs, outputs: Outputs) -> Work | None:
    """The work of a known operator; None where its inputs do not tell it.

    Args:
        name: Of `KNOWN`.
        inputs: See `read_inputs`.
        outputs: See `convolution_outputs`.
    """
    if name in _PRODUCTS:
        return _product(_PRODUCTS[name], inputs)
    if name in _CONVOLUTIONS:
        return _convolution(_CONVOLUTIONS[name], inputs, outputs)
    if name in _CONVOLUTION_BACKWARDS:
        return _convolution_backward(name, inputs)
    return _attention(*_ATTENTIONS[name], inputs) if name in _ATTENTIONS else None


def benchmarks(name: str, inputs: Inputs) -> bool | None:
    """Whether cuDNN's benchmark mode was on for a convolution; None where that is not told."""
    place = _BENCHMARK.get(name)
    said = inputs.values[place] if place is not None and len(inputs.values) > place else ""
    return {"True": True, "False": False}.get(said)


def _at(shapes: tuple[Shape | None, ...], place: int) -> Shape | None:
    return shapes[place] if place < len(shapes) else None


def _elements(*shapes: Shape) -> int:
    return sum(map(math.prod, shapes))


def _precision(inputs: Inputs, place: int) -> str | None:
    return inputs.precisions[place] if place < len(inputs.precisions) else None


def _product(places: _Product, inputs: Inputs) -> Work | None:
    left, right = _at(inputs.shapes, places.left), _at(inputs.shapes, places.right)
    if left is None or right is None or len(left) < 2 or len(left) != len(right):
        return None
    rows, inner, columns = left[-2], left[-1], right[-1]
    if right[-2] != inner:
        return None
    return Work(
        flops=2.0 * math.prod(left) * columns,
        elements=_elements(left, right, (*left[:-1], columns)),
        precision=_precision(inputs, places.left),
        dims=(rows, columns, inner),
        rows_are_samples=places.layer,
        wide=min(rows, columns, inner) >= 8,
    )


def _convolution(places: tuple[int, int, int], inputs: Inputs, outputs: Outputs) -> Work | None:
    given, weight = _at(inputs.shapes, 0), _at(inputs.shapes, 1)
    if given is None or weight is None or len(given) < 3 or len(given) != len(weight):
        return None
    if places[:2] == (3, 4) and inputs.values[_TRANSPOSED : _TRANSPOSED + 1] == ("True",):
        return None
    output = _output(given, weight, places, inputs.values) or outputs.get((given, weight))
    if output is None or output[1] != weight[0]:
        return None
    return Work(
        flops=2.0 * math.prod(output) * math.prod(weight[1:]),
        elements=_elements(given, weight, output),
        precision=_precision(inputs, 0),
        dims=None,
        rows_are_samples=False,
        wide=weight[1] > 1,
    )


def _output(
    given: Shape, weight: Shape, places: tuple[int, int, int], values: tuple[str, ...]
) -> Shape | None:
    """Sizes of the output: floor((in + 2 padding - dilation (kernel - 1) - 1) / stride) + 1."""
    if len(values) <= max(places):
        return None
    lists = [_items(values[place]) for place in places]
    spatial = len(given) - 2
    numbers = [one for values_of in lists for one in values_of]
    if any(len(one) != spatial for one in lists):
        return None
    if any(type(one) is not int or abs(one) >= LARGEST for one in numbers):
        return None
    lengths = []
    for size, kernel, stride, padding, dilation in zip(given[2:], weight[2:], *lists, strict=True):
        if stride < 1:
            return None
        lengths.append((size + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1)
    return (given[0], weight[0], *lengths) if all(one > 0 for one in lengths) else None


def _convolution_backward(name: str, inputs: Inputs) -> Work | None:
    gradient, given, weight = (_at(inputs.shapes, place) for place in _CONVOLUTION_BACKWARDS[name])
    if gradient is None or given is None or weight is None or len(weight) < 3:
        return None
    if inputs.values[_TRANSPOSED + 1 : _TRANSPOSED + 2] == ("True",) and name in _OUTPUT_MASK:
        return None
    mask = _OUTPUT_MASK.get(name)
    said = _items(inputs.values[mask].lower()) if mask and len(inputs.values) > mask else []
    wanted = sum(one is True for one in said[:2]) if len(said) > 1 else 2
    return Work(
        flops=2.0 * wanted * math.prod(gradient) * math.prod(weight[1:]),
        elements=_elements(*[gradient, given, weight] * wanted),
        precision=_precision(inputs, 0),
        dims=None,
        rows_are_samples=False,
        wide=weight[1] > 1,
    )


def _attention(place: int, products: float, inputs: Inputs) -> Work | None:
    query, key, value = (_at(inputs.shapes, place + one) for one in range(3))
    if query is None or key is None or value is None or not len(query) == len(key) == len(value):
        return None
    if len(query) < 3:
        return None
    of_pair = 2.0 * (query[-1] + value[-1])
    return Work(
        flops=products * of_pair * math.prod(query[:-1]) * key[-2],
        elements=int(products * _elements(query, key, value, (*query[:-1], value[-1]))),
        precision=_precision(inputs, place),
        dims=None,
        rows_are_samples=False,
        wide=True,
    )
