"""What operators would gain if the CPU took subnormal numbers for zero: tried on their own inputs.

The switch belongs to the calling thread. It is on for one operator of ours at a time, whose result
is thrown away, and off again whatever happens. Each operator runs as it is first, so that threads
which it may start are started without the switch (new threads inherit it). With the switch it runs
on inputs in which subnormals are zero, as there would be none in memory had it been on before.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from .saved_tensors import SavedOperator

BUDGET_NS = 20_000_000
"""Of one trial, for all its operators; one that has begun is finished."""
MOST_PRODUCTS, MOST_ELEMENTS = 1_000_000, 32_768
"""Work of one operator in a trial: some 50 us, and up to fifty times as long with subnormals. Of a
larger one the first rows are tried, and their time is scaled up."""
ROUNDS = 2
LEAST_RATIO = 1.1
"""As it is over flushed; less is noise, and counts as no gain."""
_PRODUCTS = {
    "AddmmBackward0": ("mat1", "mat2"),
    "BmmBackward0": ("self", "mat2"),
    "MmBackward0": ("self", "mat2"),
}

_Try = tuple[Callable[..., Any], tuple[Any, ...], float]
"""A function, what it is called on, and how much of an operator that is a part of."""


class FlushTrial:
    """Times operators as they are and with subnormals flushed, until its budget is spent.

    Args:
        torch: The user's torch.

    Attributes:
        plain_ns, flushed_ns: Totals of what was tried, scaled to whole operators.
        complete: Nothing was left out for want of time.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._left_ns = BUDGET_NS
        self._passes = _passes(torch)
        self.plain_ns = self.flushed_ns = 0
        self.complete = True

    def run(self, operator: SavedOperator, count: float = 1.0) -> None:
        """A product, convolution or function on its own inputs, else a pass over what it saved.

        Args:
            operator: Of a forward.
            count: Operators that it stands for.
        """
        product = self._product(operator) or self._convolution(operator)
        if product is not None:
            self._time(product, count)
        else:
            for tensor in operator.tensors.values():
                self.sweep(tensor, operator.name, count)

    def sweep(self, tensor: Any, name: str = "", count: float = 1.0) -> None:
        """One pass over a float32 tensor on the CPU: what `name` does, else a multiplication."""
        if is_float32(self._torch, tensor) and tensor.dim():
            rows, scale = _rows(tensor, tensor.numel(), MOST_ELEMENTS)
            self._time((self._passes.get(name, self._one), (rows,), scale), count)

    def _one(self, rows: Any) -> Any:
        return self._torch.mul(rows, 1.0)

    def _product(self, operator: SavedOperator) -> _Try | None:
        if operator.name not in _PRODUCTS:
            return None
        left: Any
        right: Any
        left, right = (operator.tensors.get(name) for name in _PRODUCTS[operator.name])
        torch = self._torch
        if not (is_float32(torch, left) and is_float32(torch, right)):
            return None
        rows, scale = _rows(left, left.numel() * right.shape[-1], MOST_PRODUCTS)
        if operator.name == "BmmBackward0":
            return torch.bmm, (rows, right[: len(rows)]), scale
        return torch.mm, (rows, right), scale

    def _convolution(self, operator: SavedOperator) -> _Try | None:
        torch = self._torch
        given: Any = operator.tensors.get("input")
        weight: Any = operator.tensors.get("weight")
        if operator.name != "ConvolutionBackward0":
            return None
        if not (is_float32(torch, given) and is_float32(torch, weight)):
            return None
        names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
        settings = [getattr(operator.node, f"_saved_{name}") for name in names]
        work = given.numel() * weight.numel() // given.shape[1]
        rows, scale = _rows(given, work, MOST_PRODUCTS)
        return lambda x, w: torch.convolution(x, w, None, *settings), (rows, weight), scale

    def _time(self, tried: _Try, count: float) -> None:
        if self._left_ns <= 0:
            self.complete = False
            return
        start_ns = perf_counter_ns()
        function, inputs, scale = tried
        plain: list[int] = []
        flushed: list[int] = []
        with self._torch.no_grad():
            _timed(function, inputs)  # as it is, to warm up
            zeroed = tuple(self._with_switch(self._one, (one,))[1] for one in inputs)
            for _ in range(ROUNDS):
                plain.append(_timed(function, inputs)[0])
                flushed.append(self._with_switch(function, zeroed)[0])
        plain_ns, flushed_ns = min(plain), min(flushed)
        if plain_ns < LEAST_RATIO * flushed_ns:
            flushed_ns = plain_ns
        self.plain_ns += round(plain_ns * scale * count)
        self.flushed_ns += round(flushed_ns * scale * count)
        self._left_ns -= perf_counter_ns() - start_ns

    def _with_switch(
        self, function: Callable[..., Any], inputs: tuple[Any, ...]
    ) -> tuple[int, Any]:
        self._torch.set_flush_denormal(True)
        try:
            return _timed(function, inputs)
        finally:
            self._torch.set_flush_denormal(False)


def is_float32(torch: Any, tensor: Any) -> bool:
    """Whether it is a plain float32 tensor on the CPU that holds anything."""
    return (
        type(tensor) in (torch.Tensor, torch.nn.Parameter)
        and tensor.dtype == torch.float32
        and tensor.device.type == "cpu"
        and tensor.layout == torch.strided
        and tensor.numel() > 0
    )


def _rows(tensor: Any, work: int, most: int) -> tuple[Any, float]:
    """As many of the first rows as fit into a trial, and all rows over these."""
    count = len(tensor)
    fit = max(1, min(count, most * count // max(work, 1)))
    return tensor[:fit], count / fit


def _timed(function: Callable[..., Any], inputs: tuple[Any, ...]) -> tuple[int, Any]:
    start_ns = perf_counter_ns()
    result = function(*inputs)
    return perf_counter_ns() - start_ns, result


def _passes(torch: Any) -> dict[str, Callable[[Any], Any]]:
    """Functions of one tensor whose time depends on the CPU's handling of subnormals."""
    functional = torch.nn.functional
    return {
        "DivBackward0": lambda rows: torch.div(rows, 1.5),
        "ErfBackward0": torch.erf,
        "GeluBackward0": functional.gelu,
        "LogBackward0": torch.log,
        "Log1PBackward0": torch.log1p,
        "NativeLayerNormBackward0": lambda rows: functional.layer_norm(rows, rows.shape[-1:]),
        "SiluBackward0": functional.silu,
        "SinBackward0": torch.sin,
        "SoftplusBackward0": functional.softplus,
        "sqrt": torch.sqrt,
        "rsqrt": torch.rsqrt,
    }
