"""feature-cache."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Iterable, Iterator, Mapping
from time import perf_counter
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .feature_rows import FeatureRows, row_keys
from .fix import Fix, Process, ReadBack
from .memory import host_memory
from .nested import Nested

FIRST_CALLS = 3
"""Of a root module, at which its frozen parts are looked for."""
MOST_MODULES = 8
"""Frozen parts that are looked at."""
MEMORY_SHARE = 0.25
"""Of the memory that is free at the start, for all features together."""
FIRST_CHECKS = 2
"""Batches of known rows that are computed all the same, to compare."""
CHECK_EVERY = 50
"""Later every so many of them."""
NEAR = 1e-5
"""Relative to the largest feature; a batch of another size is summed up in another order."""
LEAST_TIMES = 4.0
"""Computing must take as many times as long as looking up."""
LEAST_KNOWN_SHARE = 0.5
"""Of the rows since the first known one; random flips leave half of them."""
JUDGED_ROWS = 2_048
RANDOM_LAYERS = ("Dropout", "BatchNorm", "DropPath", "StochasticDepth", "InstanceNorm")
"""Parts of the names of layers that give another result of the same input in training mode."""
CONSTANTS = (type(None), bool, int, float, str)


class FeatureCache(Fix):
    """What a frozen part of the model computes of a sample is kept, and not computed again.

    It is about the outermost modules of which no parameter is trained and whose input needs no
    gradient. A sample is known again by a hash of all bytes of its row, so that samples which come
    in another order, or from workers, are found, and changed ones are not. The first batches of
    known rows, and every fiftieth later, are computed all the same and compared.

    Features take a quarter of the free memory at most. It is refused for layers in training mode
    that draw random numbers or take statistics (Dropout, BatchNorm), for forwards that draw random
    numbers or change what they hold, for parameters that change, for hooks, and on accelerators,
    where hashing would wait for the device. It gives up where half of the rows are new in later
    epochs: that is random augmentation.
    """

    id = "feature-cache"
    title = "Features of the frozen part are kept"
    safety = "safe"
    from_second_epoch = True
    parameters: Mapping[str, type] = {}
    verifies = ("step.forward_share", "down")
    by_hand = "train on features that the frozen part computed once, before the loop"

    def install(self, process: Process) -> None:
        """Wraps the call of modules; what is frozen is looked for once something was trained."""
        self._torch = process.torch
        self._parts: dict[int, _Part] = {}
        self._roots: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()
        self._inside = threading.local()
        self._called = False
        available, _ = host_memory()
        self._memory_bytes = int((available or 0) * MEMORY_SHARE)
        process.patches.replace(self._torch.nn.Module, "__call__", self._wrap)
        process.at_end(self._release)

    def _wrap(self, original: Any) -> Any:
        compiling, inside = self._torch.compiler.is_dynamo_compiling, self._inside

        def __call__(module: Any, /, *args: Any, **kwargs: Any) -> Any:
            depth = getattr(inside, "depth", 0)
            if compiling():
                return original(module, *args, **kwargs)
            if depth == 0 and self._roots.get(module, 0) < FIRST_CALLS:
                guard.attempt(f"fix {self.id}", self._find, module)
            part = self._parts.get(id(module))
            inside.depth = depth + 1
            try:
                if part is None or not part.is_for(module):
                    return original(module, *args, **kwargs)
                return part.call(lambda *a, **k: original(module, *a, **k), args, kwargs)
            finally:
                inside.depth = depth

        return like(original, __call__)

    def _find(self, root: Any) -> None:
        """The frozen parts of a model; they may be frozen after its very first call."""
        self._called = True
        self._roots[root] = self._roots.get(root, 0) + 1
        for module in _outermost(root):
            known = self._parts.get(id(module))
            if len(self._parts) < MOST_MODULES if known is None else known.is_gone():
                self._parts[id(module)] = _Part(self._torch, module, self._memory_left)

    def _memory_left(self) -> int:
        return self._memory_bytes - sum(one.rows.held_bytes for one in self._parts.values())

    def _release(self) -> None:
        for part in self._parts.values():
            part.rows.clear()

    def read_back(self) -> ReadBack:
        """Rows that were found, and how many of them were compared."""
        parts = list(self._parts.values())
        used = [one for one in parts if one.refused is None]
        seen = {
            "modules": sum(one.known > 0 for one in used),
            "rows_known": sum(one.known for one in used),
            "rows_held": sum(one.rows.rows for one in used),
            "batches_checked": sum(one.checked for one in used),
        }
        if not self._called:
            return ReadBack(None, seen, "no module was called yet")
        if not parts:
            return ReadBack(False, seen, "no part of the model is frozen")
        if not used:
            return ReadBack(False, seen, parts[0].refused)
        if not seen["rows_known"]:
            return ReadBack(None, seen, "no sample came a second time yet")
        return ReadBack(True, seen)


class _Part:
    """One frozen module, with what it has computed.

    Attributes:
        refused: Why it is left alone. known: Rows that were found. checked: Batches compared.
    """

    def __init__(self, torch: Any, module: Any, memory_left: Callable[[], int]) -> None:
        self._torch = torch
        self._nested = Nested(torch.Tensor)
        self._module: Callable[[], Any] = weakref.ref(module)
        self._memory_left = memory_left
        self._state: object = None
        self._template: Any = None
        self._form = ""
        self._calls = self._full = self._judged = 0
        self._computing_s = self._keys_s = 0.0
        self._thread = threading.get_ident()
        self.rows = FeatureRows(torch)
        self.refused: str | None = None
        self.known = self.checked = 0

    def is_for(self, module: Any) -> bool:
        """Whether it is this very module, and not a later one with its id."""
        return self.refused is None and self._module() is module

    def is_gone(self) -> bool:
        """Whether its module is no more."""
        return self._module() is None

    def call(self, compute: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """The module's result for these arguments, by look-up where all rows are known."""
        keys = guard.attempt("fix feature-cache", self._keys, args, kwargs)
        if keys is None:
            return compute(*args, **kwargs)
        places = self.rows.places(keys)
        found = [place for place in places if place is not None]
        self._judge(len(found), len(keys))
        if len(found) == len(keys) and self.refused is None:
            return self._known(compute, args, kwargs, found)
        result = self._computed(compute, args, kwargs)
        if self.refused is None:
            guard.attempt("fix feature-cache", self._keep, keys, result)
        return result

    def _keys(self, args: Any, kwargs: Any) -> list[bytes] | None:
        """A key for each row; None where this call cannot be looked up."""
        torch = self._torch
        if threading.get_ident() != self._thread or torch.is_inference_mode_enabled():
            return None
        values = [*args, *kwargs.values()]
        if not values:
            return None
        tensors = [one for one in values if isinstance(one, torch.Tensor)]
        constants = [one for one in values if not isinstance(one, torch.Tensor)]
        if not tensors or not all(isinstance(one, CONSTANTS) for one in constants):
            self._refuse("its arguments are not plain tensors")
            return None
        if any(one.requires_grad for one in tensors):
            self._refuse("what is in front of it is trained")
            return None
        self._refuse_unsafe(tensors)
        if self.refused is not None:
            return None
        started_s = perf_counter()
        form = repr((constants, list(kwargs), len(tensors)))
        self._form = self._form or form
        if form != self._form:
            self._refuse("it is called in more than one way")
            return None
        keys = row_keys(tensors, (form, self._module().training, self._autocast()))
        self._keys_s += perf_counter() - started_s
        return keys or None

    def _refuse(self, reason: str) -> None:
        self.refused = self.refused or reason
        self.rows.clear()

    def _refuse_unsafe(self, tensors: list[Any]) -> None:
        module = self._module()
        state = self._state_of(module)
        plain = self._torch.strided
        if any(one.device.type != "cpu" or one.layout is not plain for one in tensors):
            self._refuse("its inputs do not lie in the host's memory")
        elif any(not one.dim() or len(one) != len(tensors[0]) for one in tensors):
            self._refuse("its inputs do not have one row for each sample")
        elif any(one.requires_grad for one in module.parameters()):
            self._refuse("it is trained later")
        elif (random := _random_layer(module)) is not None:
            self._refuse(f"a {random} in it is in training mode")
        elif any(one._forward_hooks or one._forward_pre_hooks for one in module.modules()):
            self._refuse("the script hooks its forward")
        elif self._state is not None and state != self._state:
            self._refuse("it changes although nothing trains it")
        self._state = state

    def _state_of(self, module: Any) -> object:
        """Changes with the content of parameters and buffers."""
        held: Iterable[Any] = (*module.parameters(), *module.buffers())
        return [(one._version, one.data_ptr()) for one in held]

    def _autocast(self) -> object:
        torch = self._torch
        return torch.is_autocast_enabled("cpu") and str(torch.get_autocast_dtype("cpu"))

    def _judge(self, found: int, asked: int) -> None:
        """Rows that are mostly new, although some are known, come from random augmentation."""
        self.known += found
        if self.known:
            self._judged += asked
        if self._judged >= JUDGED_ROWS and self.known < LEAST_KNOWN_SHARE * self._judged:
            self._refuse("half of the samples are new in later epochs (random augmentation)")

    def _computed(self, compute: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        """Computes, and sees whether that drew random numbers or changed the module."""
        before = self._torch.get_rng_state()
        started_s = perf_counter()
        result = compute(*args, **kwargs)
        self._computing_s += perf_counter() - started_s
        self._calls += 1
        if not self._torch.equal(before, self._torch.get_rng_state()):
            self._refuse("its forward draws random numbers")
        elif self._state_of(self._module()) != self._state:
            self._refuse("its forward changes what it holds")
        elif self._calls == 3 and self._computing_s < LEAST_TIMES * self._keys_s:
            self._refuse("to compute it takes hardly longer than to look it up")
        return result

    def _keep(self, keys: list[bytes], result: Any) -> None:
        features = list(self._nested.tensors(result))
        if self._nested.unknown(result) is not None or not features:
            self._refuse(f"it gives a {type(result).__name__}")
        elif any(not one.dim() or len(one) != len(keys) for one in features):
            self._refuse("it does not give one row for each sample")
        elif self.rows.grown_bytes(features) - self.rows.held_bytes > self._memory_left():
            if not self.known:
                self._refuse("a quarter of the free memory was full before a sample came again")
        elif not self.rows.add(keys, [one.detach() for one in features]):
            self._refuse("its features have another shape from batch to batch")
        else:
            self._template = self._nested.changed(result, lambda one: one.detach()[:0].clone())

    def _known(self, compute: Callable[..., Any], args: Any, kwargs: Any, places: list[int]) -> Any:
        features = self.rows.take(places)
        self._full += 1
        if self._full <= FIRST_CHECKS or self._full % CHECK_EVERY == 0:
            result = self._computed(compute, args, kwargs)
            self.checked += 1
            if not self._alike(features, list(self._nested.tensors(result))):
                self._refuse("it gave other features of the same samples")
            return result
        waiting: Iterator[Any] = iter(features)
        return self._nested.changed(self._template, lambda _: next(waiting))

    def _alike(self, kept: list[Any], computed: list[Any]) -> bool:
        torch = self._torch
        with torch.no_grad():
            return len(kept) == len(computed) and all(
                one.shape == two.shape
                and one.dtype == two.dtype
                and torch.allclose(
                    one.double(),
                    two.double(),
                    rtol=0.0,
                    atol=NEAR * float(two.abs().max()),
                    equal_nan=True,
                )
                for one, two in zip(kept, computed, strict=True)
            )


def _outermost(module: Any) -> Iterator[Any]:
    """The outermost modules with parameters of which none is trained."""
    parameters = list(module.parameters())
    if parameters and not any(one.requires_grad for one in parameters):
        yield module
    elif parameters and not all(one.requires_grad for one in parameters):
        for child in module.children():
            yield from _outermost(child)


def _random_layer(module: Any) -> str | None:
    for layer in module.modules():
        name = type(layer).__name__
        random = layer.training and any(part in name for part in RANDOM_LAYERS)
        if random and getattr(layer, "p", 1) != 0:
            return name
    return None
