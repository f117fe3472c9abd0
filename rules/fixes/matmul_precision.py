"""matmul-precision."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .source_edit import ScriptCall, SourceEdit

PRECISIONS = ("high", "medium")
PROBE_WIDTH = 256
"""Of the product that shows what is in force: 5 ms, once."""


class MatmulPrecision(Fix):
    """Products of float32 matrices round their operands: to TF32 on GPUs, to bfloat16 on CPUs.

    It is torch's own switch, `torch.set_float32_matmul_precision`: "high" is TF32 (10 bits, NVIDIA
    from Ampere on), "medium" is bfloat16 (8 bits) on CPUs with AMX; with AVX512-BF16 alone nothing
    is rounded (torch 2.13, measured). All tensors stay float32.

    Whether it is in force is read off a product after the third update: 1 + 2^-12 times 1 must come
    out rounded. Refused where the script sets the precision itself. No GPU has confirmed it yet.
    """

    id = "matmul-precision"
    title = "Rounded products of float32 matrices"
    safety = "numerics"
    parameters: Mapping[str, type] = {"precision": str}

    def __init__(self, params: Mapping[str, Any], target: Any = None) -> None:
        """Takes one of torch's two lower precisions."""
        super().__init__(params, target)
        self._precision = str(self.params.get("precision", "high"))
        if self._precision not in PRECISIONS:
            raise ValueError(f"precision of {self.id} is {self._precision!r}, not high or medium")

    def install(self, process: Process) -> None:
        """Sets the precision, and listens to who else does."""
        self._torch = torch = process.torch
        self._refused: str | None = None
        self._updates = 0
        self._rounded: bool | None = None
        self._device = "cpu"
        self._before = torch.get_float32_matmul_precision()
        self._set = torch.set_float32_matmul_precision
        process.patches.replace(torch, "set_float32_matmul_precision", self._hear)
        self._set(self._precision)
        process.after_update(self._count)
        process.at_end(self._put_back)

    def _hear(self, original: Any) -> Any:
        def set_float32_matmul_precision(precision: str) -> None:
            self._refused = f"the script sets the precision itself, to {precision}"
            original(precision)

        return like(original, set_float32_matmul_precision)

    def _count(self) -> None:
        self._updates += 1
        if self._updates == 3 and self._refused is None:
            self._probe()

    def _probe(self) -> None:
        """In the training thread, on the device in use; draws no random numbers."""
        torch = self._torch
        cuda = torch.cuda.is_available() and torch.cuda.is_initialized()
        self._device = "cuda" if cuda else "cpu"
        shape = (PROBE_WIDTH, PROBE_WIDTH)
        with torch.no_grad():
            ones = torch.eye(PROBE_WIDTH, device=self._device)
            product = torch.full(shape, 1.0 + 2.0**-12, device=self._device) @ ones
            self._rounded = bool(product[0, 0].item() == 1.0)

    def _put_back(self) -> None:
        if self._refused is None:
            self._set(self._before)

    def read_back(self) -> ReadBack:
        """Whether a product came out rounded."""
        seen = {"precision": self._torch.get_float32_matmul_precision(), "rounded": self._rounded}
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if self._rounded is None:
            return ReadBack(None, seen, "fewer than 3 updates were made")
        reason = f"a {self._device} does not round products at {self._precision}"
        return ReadBack(self._rounded, seen, None if self._rounded else reason)

    def edit(self) -> SourceEdit:
        """The same call, after the imports."""
        return ScriptCall("torch", "set_float32_matmul_precision", self._precision)
