"""autocast-bf16."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Mapping
from types import FrameType
from typing import Any

from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .nested import Nested
from .root_calls import RootCalls
from .source_edit import Autocast, SourceEdit

ENTERS_AGAIN = ("torch.utils.checkpoint", "torch._", "torch.distributed")
"""Modules that put autocast back as they found it, and ask for nothing themselves."""
BETWEEN = ("torch.amp", "torch.cpu.amp", "torch.cuda.amp")
"""Modules between `autocast.__enter__` and who asks for it."""


class AutocastBf16(Fix):
    """The forward of root modules runs under autocast to bfloat16; outputs are cast to float32.

    Products and convolutions round their operands to 8 bits of precision. Parameters, gradients,
    optimizer and what the loop does with the outputs stay float32.

    It is refused where the script uses autocast itself, for parameters that are not float32, on
    accelerators without bfloat16, and for TorchScript.
    """

    id = "autocast-bf16"
    title = "Autocast to bfloat16"
    safety = "numerics"
    parameters: Mapping[str, type] = {"device": str, "dtype": str}
    dtype = "bfloat16"

    def __init__(self, params: Mapping[str, Any], target: Any = None) -> None:
        """Takes the one type there is."""
        super().__init__(params, target)
        if self.params.get("dtype", self.dtype) != self.dtype:
            raise ValueError(f"dtype of {self.id} is {self.params['dtype']!r}, not {self.dtype!r}")

    def install(self, process: Process) -> None:
        """Wraps the calls of root modules, and listens to who enters autocast."""
        self._torch = torch = process.torch
        self._nested = Nested(torch.Tensor)
        self._refused: str | None = None
        self._skipped: str | None = None
        self._ours = False  # our own autocast is being entered
        self._known: weakref.WeakKeyDictionary[Any, str | None] = weakref.WeakKeyDictionary()
        self._seen: dict[str, Any] = {}
        self._calls = self._cast = 0
        RootCalls(process, self._around)
        process.patches.replace(torch.autocast, "__enter__", self._enter)

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._calls += 1
        torch = self._torch
        device = next(module.parameters()).device.type
        if self._refused is None and torch.is_autocast_enabled(device):
            self._refused = "the script uses autocast itself"
        if self._refused is not None or self._unsuited(module, device):
            return call(*args, **kwargs)
        self._ours = True
        with torch.autocast(device, getattr(torch, self.dtype)):
            self._ours = False
            if not self._cast:
                self._describe(device)
            result = call(*args, **kwargs)
        self._note(result)
        return self._nested.changed(result, self._up)

    def _unsuited(self, module: Any, device: str) -> bool:
        if module not in self._known:
            self._known[module] = self._why_not(module, device)
        reason = self._known[module]
        self._skipped = reason or self._skipped
        return reason is not None

    def _why_not(self, module: Any, device: str) -> str | None:
        torch = self._torch
        wanted = self.params.get("device", device)
        if wanted != device:
            return f"the parameters lie on {device}, not on {wanted}"
        dtypes = {one.dtype for one in module.parameters() if one.is_floating_point()}
        if dtypes != {torch.float32}:
            return "some parameters are not float32"
        if any(isinstance(part, torch.jit.ScriptModule) for part in module.modules()):
            return "the module is a TorchScript program"
        return self._why_not_on(device)

    def _why_not_on(self, device: str) -> str | None:
        if device == "cuda" and not self._torch.cuda.is_bf16_supported():
            return "this GPU has no bfloat16"
        return None

    def _describe(self, device: str) -> None:
        """As the forward sees it."""
        torch = self._torch
        self._seen["enabled"] = torch.is_autocast_enabled(device)
        self._seen["dtype"] = str(torch.get_autocast_dtype(device)).rpartition(".")[2]

    def _note(self, result: Any) -> None:
        if not self._cast:
            dtypes = {str(one.dtype).rpartition(".")[2] for one in self._nested.tensors(result)}
            self._seen["outputs"] = sorted(dtypes)
        self._cast += 1

    def _up(self, tensor: Any) -> Any:
        return tensor.float() if tensor.dtype is getattr(self._torch, self.dtype) else tensor

    def _enter(self, original: Any) -> Any:
        def __enter__(cast: Any) -> Any:
            if not self._ours and getattr(cast, "_enabled", True) and _is_asked_for():
                self._refused = "the script uses autocast itself"
            return original(cast)

        return like(original, __enter__)

    def read_back(self) -> ReadBack:
        """The state that the forward saw, and how many forwards ran under it."""
        seen = {**self._seen, "forwards": self._cast}
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if not self._calls:
            return ReadBack(None, seen, "no module was called yet")
        if not self._cast:
            return ReadBack(False, seen, self._skipped or "no module was called")
        active = self._seen["enabled"] and self._seen["dtype"] == self.dtype
        return ReadBack(bool(active), seen, None if active else "autocast was not on")

    def edit(self) -> SourceEdit | None:
        """The forward of a plain loop under autocast."""
        return Autocast(str(self.params.get("device", "cpu")), self.dtype)


def _is_asked_for() -> bool:
    """Whether autocast is entered for its own sake, and not put back by torch."""
    frame: FrameType | None = sys._getframe(2)
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if not name.startswith(BETWEEN):
            return not name.startswith(ENTERS_AGAIN)
        frame = frame.f_back
    return True
