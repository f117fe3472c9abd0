"""model-float32."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .module_state import restorer
from .nested import Nested
from .root_calls import RootCalls
from .source_edit import SinglePrecision, SourceEdit


class ModelFloat32(Fix):
    """Modules compute in float32; what goes in is cast down, what comes out is cast back.

    A root module with float64 parameters gets float32 ones when it is first called: initial weights
    are the rounded ones of the same random numbers, and data, targets and loss stay as the script
    makes them. While the module computes, torch's default is float32 too. From then on
    `Module.double()` and `to(torch.float64)` are turned away.

    It is refused, and the module left as it was, where the first call fails in float32, where an
    optimizer was loaded or has already stepped, for complex parameters, and for inputs that cannot
    be looked into. Checkpoints hold float32 then.
    """

    id = "model-float32"
    title = "The model computes in float32"
    safety = "numerics"
    parameters: Mapping[str, type] = {"dtype": str, "batch": list}

    def __init__(self, params: Mapping[str, Any], target: Any = None) -> None:
        """Takes the one type there is."""
        super().__init__(params, target)
        if self.params.get("dtype", "float32") != "float32":
            raise ValueError(f"dtype of {self.id} is {self.params['dtype']!r}, not 'float32'")

    def install(self, process: Process) -> None:
        """Wraps the calls of root modules, and what turns modules into double precision."""
        self._torch = torch = process.torch
        self._nested = Nested(torch.Tensor)
        self._roots: weakref.WeakSet[Any] = weakref.WeakSet()  # that compute in float32
        self._tried: weakref.WeakKeyDictionary[Any, set[bool]] = weakref.WeakKeyDictionary()
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._refused: str | None = None
        self._calls = 0
        self._seen: dict[str, Any] = {}
        RootCalls(process, self._around)
        for name, wrap in (("double", self._double), ("to", self._to), ("type", self._to)):
            process.patches.replace(torch.nn.Module, name, wrap)
        process.patches.replace(torch.optim.Optimizer, "__init__", self._init)

    # Forward.

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        self._calls += 1
        if self._refused is not None or not self._computes_in_double(module):
            return call(*args, **kwargs)
        modes = self._tried.setdefault(module, set())
        if module.training not in modes:
            modes.add(module.training)
            return self._first(module, call, args, kwargs)
        if module not in self._roots or self._has_double(module):
            with self._torch.inference_mode(False):
                self._convert(module)
        return self._in_float32(call, args, kwargs)

    def _computes_in_double(self, module: Any) -> bool:
        return module in self._roots or self._has_double(module)

    def _has_double(self, module: Any) -> bool:
        double = self._torch.float64
        if module in self._roots:  # quickly
            return next(module.parameters()).dtype is double
        return any(parameter.dtype is double for parameter in module.parameters())

    def _first(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The first call of a kind is tried; where it fails all is as before it."""
        torch = self._torch
        self._refused = self._why_not(module, args, kwargs)
        if self._refused is not None:
            return call(*args, **kwargs)
        random = torch.get_rng_state()
        converted = module in self._roots
        with torch.inference_mode(False):  # a validation may come first: parameters outlive it
            restore = restorer(torch, module)
            attributes = self._convert(module)
        try:
            return self._in_float32(call, args, kwargs)
        except (RuntimeError, TypeError, ValueError) as error:
            if converted:  # it works in its other mode: this is the script's own mistake
                raise
            first = str(error).partition("\n")[0][:160]
            self._refused = f"its forward fails in float32: {first}"
        self._roots.discard(module)
        restore()
        for part, name, value in attributes:
            part.__dict__[name] = value
        torch.set_rng_state(random)
        return call(*args, **kwargs)

    def _why_not(self, module: Any, args: Any, kwargs: Any) -> str | None:
        parameters = list(module.parameters())
        distributed = getattr(self._torch, "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return "ranks share their gradients as float64"
        if any(one.is_complex() for one in parameters):
            return "some parameters are complex numbers"
        if any(isinstance(part, self._torch.jit.ScriptModule) for part in module.modules()):
            return "the module is a TorchScript program"
        kind = self._nested.unknown((args, kwargs))
        if kind is not None:
            return f"its inputs are a {kind.__qualname__}, which cannot be looked into"
        mine = {id(one) for one in parameters}
        for optimizer in list(self._optimizers):
            if any(id(one) in mine for one in optimizer.state):
                return "its optimizer is already under way in float64"
        return None

    def _convert(self, module: Any) -> list[tuple[Any, str, Any]]:
        """Makes parameters, buffers and plain tensors of a module float32.

        Returns:
            The plain tensors as they were: module, attribute, value.
        """
        torch = self._torch
        module._apply(lambda one: one.float() if one.dtype is torch.float64 else one)
        changed = []
        for part in module.modules():
            for name, value in list(vars(part).items()):
                if isinstance(value, torch.Tensor) and value.dtype is torch.float64:
                    changed.append((part, name, value))
                    part.__dict__[name] = value.float()
        self._roots.add(module)
        return changed

    def _in_float32(self, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        torch = self._torch
        args, kwargs = self._nested.changed((args, kwargs), self._down)
        default = torch.get_default_dtype()
        if default is torch.float64:
            torch.set_default_dtype(torch.float32)
        try:
            result = call(*args, **kwargs)
        finally:
            if default is torch.float64:
                torch.set_default_dtype(default)
        if not self._seen:
            self._describe(args, kwargs, result)
        return self._nested.changed(result, self._up)

    def _describe(self, args: Any, kwargs: Any, result: Any) -> None:
        for name, value in (("inputs", (args, kwargs)), ("outputs", result)):
            dtypes = {one.dtype for one in self._nested.tensors(value) if one.is_floating_point()}
            self._seen[name] = sorted(_name(dtype) for dtype in dtypes)

    def _down(self, tensor: Any) -> Any:
        return tensor.float() if tensor.dtype is self._torch.float64 else tensor

    def _up(self, tensor: Any) -> Any:
        return tensor.double() if tensor.dtype is self._torch.float32 else tensor

    # What would undo it.

    def _double(self, original: Any) -> Any:
        def double(module: Any) -> Any:
            return module if len(self._roots) else original(module)

        return like(original, double)

    def _to(self, original: Any) -> Any:
        torch = self._torch

        def to(module: Any, *args: Any, **kwargs: Any) -> Any:
            if not len(self._roots):
                return original(module, *args, **kwargs)
            kept = [one for one in args if one is not torch.float64]
            kept = [one.device if _is_double(torch, one) else one for one in kept]
            named = {name: one for name, one in kwargs.items() if one is not torch.float64}
            if (args or kwargs) and not kept and not named:
                return module
            return original(module, *kept, **named)

        return like(original, to)

    def _init(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            self._optimizers.add(optimizer)

        return like(original, __init__)

    def read_back(self) -> ReadBack:
        """The types of the parameters now, and of what the first call took and gave."""
        if self._refused is not None:
            return ReadBack(False, dict(self._seen), self._refused)
        if not self._calls:
            return ReadBack(None, reason="no module was called yet")
        parameters = [one for root in list(self._roots) for one in root.parameters()]
        if not self._seen:
            return ReadBack(False, reason="no module that is called has float64 parameters")
        dtypes = sorted({_name(one.dtype) for one in parameters if one.is_floating_point()})
        seen = {**self._seen, "parameters": dtypes}
        active = "float64" not in [*dtypes, *self._seen["inputs"], *self._seen["outputs"]]
        return ReadBack(active, seen, None if active else "something is float64 again")

    def edit(self) -> SourceEdit:
        """The model and its batches in float32, where they are made."""
        batch = self.params.get("batch")
        return SinglePrecision(tuple(map(str, batch)) if batch is not None else None)


def _is_double(torch: Any, value: Any) -> bool:
    return isinstance(value, torch.Tensor) and value.dtype is torch.float64


def _name(dtype: Any) -> str:
    return str(dtype).rpartition(".")[2]
