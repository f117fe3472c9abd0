"""What an operator would gain if the CPU took subnormal numbers for zero: tried on its own inputs.

The switch belongs to the calling thread. It is on for the length of one operator of ours at a time,
whose result is thrown away, and off again whatever happens. Each operator runs as it is first, so
that the threads it may start are started without the switch (new threads inherit it).
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns
from typing import Any

from .saved_tensors import SavedOperator, leaf_behind

BUDGET_NS = 20_000_000
"""Of one look, for all its operators; one that has begun is finished."""
MOST_WORK = 1_000_000
"""Multiplications of one trial: half a millisecond, and thirty times as long with subnormals. Of a
larger operator the first rows are tried, and their time is scaled up."""
ROUNDS = 2
LEAST_RATIO = 1.1
"""As it is over flushed; less is noise, and counts as no gain."""
_PRODUCTS = {"AddmmBackward0": ("mat1", "mat2", 1, 2), "MmBackward0": ("self", "mat2", 0, 1)}


class FlushTrial:
    """Times operators as they are and with subnormals flushed, until its budget is spent.

    Attributes:
        plain_ns, flushed_ns: Totals of what was tried, scaled to whole operators.
        complete: Nothing was left out for want of time.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._left_ns = BUDGET_NS
        self.plain_ns = self.flushed_ns = 0
        self.complete = True

    def run(self, operator: SavedOperator, count: int = 1) -> None:
        """A product or convolution on its own inputs, anything else as a pass over what it saved.

        Args:
            operator: Of a forward.
            count: Operators that it stands for.
        """
        product = self._product(operator) or self._convolution(operator)
        if product is not None:
            call, scale = product
            self._time(call, scale * count)
        else:
            for tensor in operator.tensors.values():
                self.sweep(tensor, count)

    def sweep(self, tensor: Any, count: int = 1) -> None:
        """One pass over all elements of a float32 tensor on the CPU, that stands for `count`."""
        if is_float32(self._torch, tensor) and tensor.dim():
            rows, scale = self._rows(tensor, tensor.numel())
            self._time(lambda: self._torch.mul(rows, 1.0), scale * count)

    def _product(self, operator: SavedOperator) -> tuple[Callable[[], Any], float] | None:
        left: Any
        right: Any
        if operator.name == "BmmBackward0":
            left, right = operator.tensors.get("self"), operator.tensors.get("mat2")
        elif operator.name in _PRODUCTS:
            first, second, place, other = _PRODUCTS[operator.name]
            left = operator.tensors.get(first)
            right = operator.tensors.get(second)
            left = leaf_behind(operator.node, place) if left is None else left
            right = leaf_behind(operator.node, other) if right is None else right
        else:
            return None
        torch = self._torch
        if not (is_float32(torch, left) and is_float32(torch, right)):
            return None
        rows, scale = self._rows(left, left.numel() * right.shape[-1])
        if operator.name == "BmmBackward0":
            return lambda: torch.bmm(rows, right[: len(rows)]), scale
        return lambda: torch.mm(rows, right), scale

    def _convolution(self, operator: SavedOperator) -> tuple[Callable[[], Any], float] | None:
        tensors, torch = operator.tensors, self._torch
        given: Any = tensors.get("input")
        weight: Any = tensors.get("weight")
        if operator.name != "ConvolutionBackward0":
            return None
        if not (is_float32(torch, given) and is_float32(torch, weight)):
            return None
        names = ("stride", "padding", "dilation", "transposed", "output_padding", "groups")
        settings = [getattr(operator.node, f"_saved_{name}") for name in names]
        rows, scale = self._rows(given, given.numel() * weight.numel() // given.shape[1])
        return lambda: torch.convolution(rows, weight, None, *settings), scale

    @staticmethod
    def _rows(tensor: Any, work: int) -> tuple[Any, float]:
        """As many of the first rows as fit into a trial, and all rows over these."""
        count = len(tensor)
        fit = max(1, min(count, MOST_WORK * count // max(work, 1)))
        return tensor[:fit], count / fit

    def _time(self, call: Callable[[], Any], scale: float) -> None:
        if self._left_ns <= 0:
            self.complete = False
            return
        start_ns = perf_counter_ns()
        times: dict[bool, list[int]] = {False: [], True: []}
        with self._torch.no_grad():
            _timed(call)  # as it is, to warm up
            for flushed in (False, True) * ROUNDS:
                times[flushed].append(self._flushed(call) if flushed else _timed(call))
        plain_ns, flushed_ns = min(times[False]), min(times[True])
        if plain_ns < LEAST_RATIO * flushed_ns:
            flushed_ns = plain_ns
        self.plain_ns += round(plain_ns * scale)
        self.flushed_ns += round(flushed_ns * scale)
        self._left_ns -= perf_counter_ns() - start_ns

    def _flushed(self, call: Callable[[], Any]) -> int:
        self._torch.set_flush_denormal(True)
        try:
            return _timed(call)
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


def _timed(call: Callable[[], Any]) -> int:
    start_ns = perf_counter_ns()
    call()
    return perf_counter_ns() - start_ns
