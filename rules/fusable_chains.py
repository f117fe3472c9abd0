"""Chains of element-wise operators and norms, which a compiler would make one loop of."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

from trainprof.rules.operator_table import FORWARD, Call

LEAST_LENGTH = 2
"""A single operator gains nothing by being compiled."""

# fmt: off
_ARITHMETIC = (
    "add", "sub", "rsub", "mul", "div", "pow", "maximum", "minimum", "where", "masked_fill", "lerp",
    "addcmul", "addcdiv", "neg", "abs", "exp", "log", "log1p", "sqrt", "rsqrt", "reciprocal",
    "square", "sin", "cos", "tanh", "sigmoid", "erf", "clamp",
)
_ACTIVATIONS = (
    "relu", "gelu", "silu", "elu", "leaky_relu", "softplus", "hardtanh", "hardswish", "hardsigmoid",
    "mish", "dropout",
)
_NORMS = (
    "layer_norm", "rms_norm", "group_norm", "softmax", "log_softmax", "mean", "sum", "var",
)
POINTWISE = frozenset((*_ARITHMETIC, *_ACTIVATIONS, *_NORMS))
"""Operators whose time is reading and writing memory; the norms reduce one dimension on the way."""

_SEE_THROUGH = frozenset((
    "view", "reshape", "unsqueeze", "squeeze", "expand", "select", "slice", "chunk", "split",
    "transpose", "permute", "t", "detach", "getitem", "narrow", "unbind", "flatten",
))
"""Operators that compute nothing: a chain goes on behind them."""
# fmt: on


@dataclass(frozen=True, slots=True)
class Chain:
    """Element-wise operators one after the other in a forward."""

    calls: tuple[Call, ...]

    @property
    def total_ns(self) -> int:
        """Forward and backward."""
        return sum(call.total_ns for call in self.calls)


def find_chains(calls: Iterable[Call]) -> Iterator[Chain]:
    """The chains of a step, in order; what lies outside the forwards ends one."""
    run: list[Call] = []
    for call in calls:
        name = call.name.removesuffix("_")
        if call.zone == FORWARD and name in _SEE_THROUGH:
            continue
        if call.zone == FORWARD and name in POINTWISE:
            run.append(call)
            continue
        if len(run) >= LEAST_LENGTH:
            yield Chain(tuple(run))
        run = []
    if len(run) >= LEAST_LENGTH:
        yield Chain(tuple(run))
