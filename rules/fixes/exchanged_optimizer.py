"""An optimizer of torch's that goes on as one of a library's, whose state takes 8 bits a number.

Standard library only.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any

from .registration import has_kernel

LEAST_NUMBERS = 4096
"""Smaller tensors keep their state in full (`min_8bit_size` of bitsandbytes; so does torchao)."""
STATES = ("state1", "state2", "exp_avg", "exp_avg_sq")
"""Of bitsandbytes and of torchao, as the entries of an optimizer's state are called there."""
OF_TORCH = ("exp_avg", "momentum_buffer")
FAILURES = (RuntimeError, ValueError, TypeError, AttributeError, LookupError, OSError, ImportError)
"""What a first update can end in: no kernel, no compiler, a version that wants other arguments."""


@dataclass(frozen=True, slots=True)
class Form:
    """One 8-bit form of an optimizer.

    Attributes:
        library: "bitsandbytes" or "torchao".
        kind: Its class.
        arguments: Of its constructor, besides the parameters.
    """

    library: str
    kind: Any
    arguments: Mapping[str, Any]


def form_of(torch: Any, optimizer: Any) -> Form | str:
    """The form to take, or why there is none: bitsandbytes' where it has one, else torchao's."""
    defaults = optimizer.defaults
    devices = {one.device.type for group in optimizer.param_groups for one in group["params"]}
    reasons = []
    for library, find in (("bitsandbytes", _bitsandbytes), ("torchao", _torchao)):
        if find_spec(library) is None:
            continue
        found = find(torch, optimizer, devices)
        if isinstance(found, str):
            reasons.append(found)
            continue
        names = ("lr", "momentum", "weight_decay") if "momentum" in defaults else _OF_ADAM
        return Form(library, found, {name: defaults[name] for name in names})
    if reasons:
        return f"not here, because {' and '.join(reasons)}"
    return "not here, because neither bitsandbytes nor torchao is installed"


_OF_ADAM = ("lr", "betas", "eps", "weight_decay")


def _bitsandbytes(torch: Any, optimizer: Any, devices: set[str]) -> Any:
    name = type(optimizer).__name__
    coupled = name == "Adam" and not optimizer.defaults.get("decoupled_weight_decay")
    if coupled and any(group["weight_decay"] for group in optimizer.param_groups):
        return "bitsandbytes decays Adam's weights as AdamW does"
    library = _imported("bitsandbytes.optim")
    if isinstance(library, str):
        return library
    for device in sorted(devices):
        if not has_kernel(torch, "bitsandbytes::optimizer_update_8bit_blockwise", device):
            return f"this bitsandbytes has no 8-bit update for the device {device}"
    decoupled = optimizer.defaults.get("decoupled_weight_decay")
    wanted = f"{'AdamW' if decoupled else name}8bit"
    return getattr(library, wanted, f"this bitsandbytes has no {wanted}")


def _torchao(torch: Any, optimizer: Any, devices: set[str]) -> Any:
    name = type(optimizer).__name__
    wanted = f"{'AdamW' if optimizer.defaults.get('decoupled_weight_decay') else name}8bit"
    if name == "SGD":
        return "torchao has no SGD in 8 bits"
    if not devices <= {"cpu", "cuda", "xpu"}:
        return f"torchao compiles its update, which {sorted(devices)[0]} does not take"
    library = _imported("torchao.optim", "torchao.prototype.low_bit_optim")  # up to 0.8
    if isinstance(library, str):
        return library
    return getattr(library, wanted, f"this torchao has no {wanted}")


def _imported(*names: str) -> Any:
    """The first of the modules that can be imported, else why the last could not."""
    reason = ""
    for name in names:
        try:
            with warnings.catch_warnings():
                warnings.simplefilter("ignore")
                return import_module(name)
        except FAILURES as error:
            reason = f"{name} cannot be imported: {str(error).partition(chr(10))[0][:120]}"
    return reason


def exchange(
    torch: Any, optimizer: Any, form: Form, init: Callable[..., None], told: Callable[[str], None]
) -> None:
    """Makes the optimizer one of the form's, and one of its own class still.

    Args:
        torch: The script's.
        optimizer: Without a state.
        form: Its 8-bit form.
        init: `Optimizer.__init__`, as it was before the fix.
        told: Is told why, when the optimizer goes back to torch's own.

    Raises:
        Exception: what the library raises; the optimizer is as before then.
    """
    before, plain, defaults = dict(vars(optimizer)), type(optimizer), optimizer.defaults
    groups = [dict(group) for group in optimizer.param_groups]
    optimizer.__class__ = _exchanged(torch, form, plain, init, _Back(plain, defaults, told))
    done = False
    try:
        form.kind.__init__(optimizer, groups, **form.arguments)
        optimizer.defaults = {**optimizer.defaults, **defaults}
        if "momentum" in defaults:
            optimizer.defaults.pop("betas", None)  # OneCycleLR moves the ones or the other
        done = True
    finally:
        if not done:
            optimizer.__class__ = plain
            vars(optimizer).clear()
            vars(optimizer).update(before)


@dataclass(frozen=True, slots=True)
class _Back:
    """The way back to torch's own class."""

    plain: Any
    defaults: Mapping[str, Any]
    told: Callable[[str], None]

    def go(self, optimizer: Any, reason: str) -> None:
        added = ({"betas"} | set(optimizer.defaults)) - set(self.defaults)
        optimizer.__class__ = self.plain
        optimizer.defaults = dict(self.defaults)
        optimizer.state.clear()
        for group in optimizer.param_groups:
            for name in added:
                group.pop(name, None)
            for name, value in self.defaults.items():
                group.setdefault(name, value)
        self.told(reason)


def _exchanged(torch: Any, form: Form, plain: Any, init: Callable[..., None], back: _Back) -> Any:
    base: Any = torch.optim.Optimizer
    low: Any = form.kind

    class Stored(base):  # type: ignore[misc]
        """What the library's class calls by `super()`: not torch's own form of the algorithm."""

        def __init__(self, params: Any, defaults: Any) -> None:
            init(self, params, defaults)

        def __setstate__(self, state: Any) -> None:
            base.__setstate__(self, state)

    class Exchanged(low, Stored, plain):  # type: ignore[misc]
        def add_param_group(self, param_group: dict[str, Any]) -> None:
            rate = param_group.get("lr", self.defaults["lr"])
            low.add_param_group(self, param_group)
            self.param_groups[-1]["lr"] = rate  # torchao makes it a tensor

        def step(self, closure: Callable[[], Any] | None = None) -> Any:
            if type(self) is not Exchanged:  # it went back, and a scheduler holds this method
                return _without_hooks(plain.step)(self, closure)
            loss = None
            if closure is not None:
                with torch.enable_grad():
                    loss = closure()
            if self.state:
                with _settings(torch, form, self):
                    _without_hooks(low.step)(self)
            else:
                self._first_update()
            return loss

        def _first_update(self) -> None:
            try:
                if any(one.is_sparse for one in _gradients(self)):
                    raise ValueError("a gradient is sparse")
                with _settings(torch, form, self):
                    _without_hooks(low.step)(self)
            except FAILURES as error:
                first = str(error).partition("\n")[0][:160]
                updated = list(self.state)[:-1]  # the last one failed before it was written
                kept = [(one, one.grad) for one in updated]
                back.go(self, f"its first update in 8 bits fails: {first}")
                for one in updated:
                    one.grad = None
                _without_hooks(plain.step)(self)
                for one, gradient in kept:
                    one.grad = gradient

        def load_state_dict(self, state_dict: Any, *args: Any, **kwargs: Any) -> None:
            if type(self) is Exchanged and not _is_of_torch(state_dict):
                low.load_state_dict(self, state_dict, *args, **kwargs)
                return
            if type(self) is Exchanged:
                back.go(self, "the script loads a state with all its bits")
            plain.load_state_dict(self, state_dict)

        def __deepcopy__(self, memo: dict[int, Any]) -> Any:
            new = Exchanged.__new__(Exchanged)
            memo[id(self)] = new
            new.__setstate__(deepcopy(_own(self), memo))
            return new

        def __reduce_ex__(self, protocol: Any) -> Any:
            return object.__new__, (low,), _own(self)

    Exchanged.__name__ = Exchanged.__qualname__ = low.__name__
    Exchanged.__module__ = low.__module__
    return Exchanged


def _own(optimizer: Any) -> dict[str, Any]:
    """Its attributes but for hooks; torch's classes would only keep state and groups."""
    return {
        name: value
        for name, value in vars(optimizer).items()
        if name != "step" and not name.startswith("_optimizer_")
    }


def _gradients(optimizer: Any) -> Iterator[Any]:
    for group in optimizer.param_groups:
        yield from (one.grad for one in group["params"] if one.grad is not None)


def _without_hooks(step: Any) -> Any:
    """Torch wraps a class's `step` so that hooks are called; they were called already."""
    return step.__wrapped__ if getattr(step, "hooked", False) else step


@contextmanager
def _settings(torch: Any, form: Form, optimizer: Any) -> Iterator[None]:
    """The groups as the library wants them, for the length of an update."""
    rates = [group["lr"] for group in optimizer.param_groups]
    for group in optimizer.param_groups:
        if "momentum" in group:
            group["betas"] = (group["momentum"], group["dampening"])
            group.setdefault("eps", 0.0)
        if form.library == "torchao":  # compiled anew for each number, not for each tensor
            group["lr"] = torch.tensor(float(group["lr"]))
    try:
        yield
    finally:
        for group, rate in zip(optimizer.param_groups, rates, strict=True):
            group["lr"] = rate


def _is_of_torch(state_dict: Any) -> bool:
    """Whether a large tensor's state is there with all its bits."""
    for state in state_dict["state"].values():
        for name in OF_TORCH:
            held = state.get(name) if isinstance(state, Mapping) else None
            if held is not None and held.numel() >= LEAST_NUMBERS and not hasattr(held, "codes"):
                return True
    return False


def numbers_of(torch: Any, optimizer: Any) -> tuple[int, int]:
    """How many numbers the state holds in 8 bits, and how many at all."""
    low = total = 0
    for state in optimizer.state.values():
        for held in (state[name] for name in STATES if name in state):
            total += held.numel()
            if getattr(held, "codes", held).dtype is torch.uint8:
                low += held.numel()
    return low, total
