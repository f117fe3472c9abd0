"""What only an accelerator makes interesting: copies to it, waits for it, and its losses.

Nothing here is installed on a machine without one. No GPU has confirmed these hooks; they are
tested with fake devices.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Any

from . import marks as m
from .patching import Patches
from .recorder import Recorder

LOSS_EVERY = 16
"""Every so many backwards the loss is copied from the device."""
MOST_PENDING = 64


class DeviceHooks:
    """Brackets `Tensor.to/cuda/cpu/item` and the accelerator's `synchronize`."""

    def __init__(self, torch: Any, recorder: Recorder) -> None:
        self._torch = torch
        self._recorder = recorder

    def install(self, patches: Patches) -> None:
        """Patches the tensor methods; call it only where an accelerator is available."""
        tensor = self._torch.Tensor
        patches.replace(tensor, "to", self._bracket(m.TO_DEVICE, _is_on_host))
        for name in ("cuda", "xpu"):
            if hasattr(tensor, name):
                patches.replace(tensor, name, self._bracket(m.TO_DEVICE, _is_on_host))
        for name in ("item", "cpu", "tolist"):
            patches.replace(tensor, name, self._bracket(m.SYNC, _is_on_device))
        for owner in (self._torch.cuda, getattr(self._torch, "accelerator", None)):
            if owner is not None and hasattr(owner, "synchronize"):
                patches.replace(owner, "synchronize", self._bracket(m.SYNC, _always))

    def _bracket(self, kind: int, concerns: Callable[..., bool]) -> Callable[[Any], Any]:
        recorder = self._recorder

        def make(original: Any) -> Any:
            def wrapper(*args: Any, **kwargs: Any) -> Any:
                if not recorder.active() or not concerns(*args):
                    return original(*args, **kwargs)
                recorder.mark(kind)
                try:
                    return original(*args, **kwargs)
                finally:
                    recorder.mark(kind + 1)

            wrapper.__name__ = getattr(original, "__name__", "wrapper")
            wrapper.__doc__ = getattr(original, "__doc__", None)
            return wrapper

        return make


def _is_on_host(*args: Any) -> bool:
    return bool(args) and args[0].device.type == "cpu"


def _is_on_device(*args: Any) -> bool:
    return bool(args) and args[0].device.type != "cpu"


def _always(*args: Any) -> bool:
    return True


class DeviceLosses:
    """Reads the loss from a device without making anybody wait.

    In the training thread and its stream, every n-th backward, the value is copied into pinned
    memory and an event is recorded; the agent's thread reads it once the event has passed.

    Args:
        torch: The user's torch.
        capturing: Whether a graph is being captured just now (then nothing may be recorded).
    """

    def __init__(self, torch: Any, capturing: Callable[[], bool] | None = None) -> None:
        self._torch = torch
        self._capturing = capturing or _capturing(torch)
        self._count = 0
        self._pending: deque[tuple[int, Any, Any]] = deque()

    def offer(self, at_ns: int, outputs: Any) -> None:
        """Looks at the root of a backward that is not on the CPU."""
        self._count += 1
        if self._count % LOSS_EVERY != 1 or len(self._pending) >= MOST_PENDING:
            return
        tensor = outputs[0] if isinstance(outputs, (tuple, list)) else outputs
        if tensor.numel() != 1 or tensor.device.type == "cpu" or self._capturing():
            return
        host = self._torch.empty((), dtype=tensor.dtype, pin_memory=True)
        host.copy_(tensor.detach().reshape(()), non_blocking=True)
        event = self._torch.Event(tensor.device)
        event.record()
        self._pending.append((at_ns, host, event))

    def take(self) -> list[tuple[int, float]]:
        """(time of the backward, loss) of every copy that has arrived."""
        values = []
        while self._pending and self._pending[0][2].query():
            at_ns, host, _ = self._pending.popleft()
            values.append((at_ns, float(host)))
        return values


def _capturing(torch: Any) -> Callable[[], bool]:
    check = getattr(torch.cuda, "is_current_stream_capturing", None)
    return check if check is not None else (lambda: False)
