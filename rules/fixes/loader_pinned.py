"""loader-pinned."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Process, ReadBack
from .loader_arguments import LoaderArguments
from .loader_edit import loader_edit
from .memory import memory_is_short
from .pinned_copies import PinnedCopies
from .source_edit import SourceEdit

WITHOUT_PINNING = ("mps",)
"""Accelerators that share the host's memory; torch pins nothing for them."""


class LoaderPinned(LoaderArguments):
    """Batches lie in page-locked memory, and are copied to the device without waiting for it.

    The loader gets `pin_memory=True`, and `Tensor.to` and `Tensor.cuda` copy tensors that are
    page-locked with `non_blocking=True`. The stream keeps the order, so that kernels see the same
    values. Copies from the device to the host stay as they are.

    It is refused where there is no accelerator, and where memory is short. A batch that torch
    cannot pin (it lies on the device already) comes as it is. A script that writes into a batch
    after copying it may write before the copy is done: the first such write is noticed, from then
    on copies wait as before, and the fix counts as not in force.

    No GPU has confirmed it; its tests have a made-up device.
    """

    id = "loader-pinned"
    title = "Pinned batches, copied without waiting"
    safety = "safe"
    parameters: Mapping[str, type] = {"pin_memory": bool, "non_blocking": bool}
    verifies = ("step.h2d_share", "down")
    by_hand = "batch.to(device, non_blocking=True)"

    def install(self, process: Process) -> None:
        """Wraps the loader's making, its pinning, and copies of tensors."""
        super().install(process)
        torch = process.torch
        self._copies = PinnedCopies(torch)
        self._unpinned: str | None = None
        if self.params.get("non_blocking", True) and _accelerator(torch) is not None:
            for name in ("to", "cuda"):
                process.patches.replace(torch.Tensor, name, getattr(self._copies, name))
            pinning = torch.utils.data._utils.pin_memory
            process.patches.replace(pinning, "pin_memory", self._pin)

    def _changed(self, named: dict[str, Any]) -> dict[str, Any]:
        return {**named, "pin_memory": True}

    def _why_not(self, named: dict[str, Any], changed: dict[str, Any]) -> str | None:
        kind = _accelerator(self._process.torch)
        if kind is None:
            return "there is no accelerator here"
        if kind in WITHOUT_PINNING:
            return f"{kind} shares the host's memory, there is nothing to pin"
        if memory_is_short(self._process.torch):
            return "memory is short, and page-locked memory cannot be swapped"
        return None

    def _pin(self, original: Any) -> Any:
        def pin_memory(data: Any, device: Any = None) -> Any:
            try:
                return original(data, device)
            except RuntimeError as error:  # it would reach the script
                self._unpinned = str(error).partition("\n")[0][:160]
                return data

        return like(original, pin_memory)

    def read_back(self) -> ReadBack:
        """Whether the loader pins, and what was copied from pinned memory."""
        copied = getattr(self, "_copies", None)
        state = super().read_back()
        if state.active is not True or copied is None:
            return state
        state.seen["pinned_copies"] = copied.count
        if copied.written is not None:
            return ReadBack(False, state.seen, copied.written)
        if copied.count == 0:
            reason = f"torch cannot pin the batches ({self._unpinned})" if self._unpinned else None
            return ReadBack(False if reason else None, state.seen, reason)
        return state

    def edit(self) -> SourceEdit:
        """The loader's argument; the copies are the script's own lines."""
        return loader_edit({"pin_memory": True})

    def _wanted(self, name: str, value: Any) -> Any:
        return True

    def _look(self) -> None:
        loader = self._latest() if self._latest is not None else None
        if loader is not None:
            self._seen = {"pin_memory": loader.pin_memory}


def _accelerator(torch: Any) -> str | None:
    """Type of the device that torch finds; None without one."""
    accelerator = getattr(torch, "accelerator", None)  # torch 2.6
    if accelerator is None:
        return "cuda" if torch.cuda.is_available() else None
    if not guard.attempt("accelerator", accelerator.is_available):
        return None
    return str(accelerator.current_accelerator().type)
