"""checkpointing-on."""

from __future__ import annotations

import sys
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .root_calls import RootCalls

LEAST_SHARE = 0.05
"""Of the activations of a forward that a block must keep; a smaller one frees next to nothing."""


class CheckpointingOn(Fix):
    """Blocks that keep many activations compute them again in the backward: memory for time.

    Blocks are modules of one class that stand in a list (`ModuleList`, `Sequential`), the outermost
    of them. The first forward in training is watched for what each keeps for the backward; those
    with a twentieth of it or more are checkpointed from the second forward on, by
    `torch.utils.checkpoint` with `use_reentrant=False`. Random numbers are drawn again as they
    were, so that losses are the same to the last bit.

    A block stays as it is with a BatchNorm in training mode or another buffer that its forward
    changes (that would happen twice), with hooks, and where the script checkpoints it itself. It
    makes steps slower, so that no tune keeps it: it is for trainings that do not fit.
    """

    id = "checkpointing-on"
    title = "Blocks compute their activations again"
    safety = "safe"
    parameters: Mapping[str, type] = {}
    by_hand = "x = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=False)"

    def install(self, process: Process) -> None:
        """Wraps the calls of modules; `checkpoint` is taken as torch has it now."""
        self._torch = process.torch
        library: Any = sys.modules["torch.utils.checkpoint"]
        self._checkpoint = library.checkpoint
        self._watching: _Watch | None = None
        self._blocks: dict[int, Callable[[], Any]] = {}  # weak references
        self._seen: weakref.WeakSet[Any] = weakref.WeakSet()
        self._forwards = self._calls = self._saved_bytes = self._all_bytes = 0
        self._own = False
        self._reason: str | None = None
        process.patches.replace(self._torch.nn.Module, "__call__", self._wrap)
        RootCalls(process, self._around)
        process.patches.replace(library, "checkpoint", self._hear)

    def _hear(self, original: Any) -> Any:
        def checkpoint(*args: Any, **kwargs: Any) -> Any:
            self._own = True
            return original(*args, **kwargs)

        return like(original, checkpoint)

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        grads = self._torch.is_grad_enabled() and module.training
        if module in self._seen or not grads:
            return call(*args, **kwargs)
        self._seen.add(module)
        self._forwards += 1
        watch = _Watch(self._torch, _blocks_of(module))
        self._watching = watch
        try:
            with watch.hooks():
                result = call(*args, **kwargs)
        finally:
            self._watching = None
        guard.attempt(f"fix {self.id}", self._choose, watch)
        return result

    def _choose(self, watch: _Watch) -> None:
        """The blocks that keep much, and whose forward may run twice."""
        self._all_bytes += watch.all_bytes
        if self._own:
            self._reason = "the script checkpoints itself"
            return
        for block in watch.blocks:
            kept = watch.bytes_of.get(id(block), 0)
            if kept < LEAST_SHARE * watch.all_bytes or not kept:
                continue
            reason = watch.why_not(block)
            if reason is not None:
                self._reason = reason
                continue
            self._blocks[id(block)] = weakref.ref(block)
            self._saved_bytes += kept

    def _wrap(self, original: Any) -> Any:
        compiling, enabled = self._torch.compiler.is_dynamo_compiling, self._torch.is_grad_enabled
        in_backward = getattr(self._torch._C, "_current_graph_task_id", lambda: -1)

        def __call__(module: Any, /, *args: Any, **kwargs: Any) -> Any:
            watch = self._watching
            if watch is not None and not compiling():
                with watch.inside(module):
                    return original(module, *args, **kwargs)
            block = self._blocks.get(id(module))
            if block is None or id(block()) != id(module) or not module.training or not enabled():
                return original(module, *args, **kwargs)
            if compiling() or in_backward() != -1:
                return original(module, *args, **kwargs)
            self._calls += 1

            def forward(*args: Any, **kwargs: Any) -> Any:
                return original(module, *args, **kwargs)

            return self._checkpoint(forward, *args, use_reentrant=False, **kwargs)

        return like(original, __call__)

    def read_back(self) -> ReadBack:
        """Blocks, their calls, and what the first forward kept for them."""
        seen = {
            "blocks": len(self._blocks),
            "calls": self._calls,
            "bytes": self._saved_bytes,
            "of_bytes": self._all_bytes,
        }
        if self._calls:
            return ReadBack(True, seen)
        if not self._forwards or self._blocks:
            return ReadBack(None, seen, "the first forward in training is watched only")
        return ReadBack(False, seen, self._reason or "no blocks in a list keep many activations")


class _Watch:
    """What blocks keep for the backward in one forward."""

    def __init__(self, torch: Any, blocks: list[Any]) -> None:
        self._torch = torch
        self.blocks = blocks
        self._ids = {id(block) for block in blocks}
        self._parameters = {p.data_ptr() for block in blocks for p in block.parameters()}
        self._versions = {id(block): _versions(block) for block in blocks}
        self._storages: set[int] = set()
        self._current = 0
        self.bytes_of: dict[int, int] = {}
        self.all_bytes = 0

    def hooks(self) -> AbstractContextManager[Any]:
        """Counts tensors as they are saved; they are kept as they are."""
        hooks = self._torch.autograd.graph.saved_tensors_hooks
        context: AbstractContextManager[Any] = hooks(self._count, lambda tensor: tensor)
        return context

    def _count(self, tensor: Any) -> Any:
        guard.attempt("fix checkpointing-on", self._add, tensor)
        return tensor

    def _add(self, tensor: Any) -> None:
        storage = tensor.untyped_storage()
        if storage.data_ptr() in self._storages or tensor.data_ptr() in self._parameters:
            return
        self._storages.add(storage.data_ptr())
        self.all_bytes += storage.nbytes()
        self.bytes_of[self._current] = self.bytes_of.get(self._current, 0) + storage.nbytes()

    def inside(self, module: Any) -> AbstractContextManager[None]:
        """While a block runs, what is saved is its own."""
        return _Inside(self, id(module) if id(module) in self._ids else 0)

    def why_not(self, block: Any) -> str | None:
        """Why the forward of a block must not run twice."""
        if any(one._forward_hooks or one._forward_pre_hooks for one in block.modules()):
            return "the script hooks a block"
        if _versions(block) != self._versions[id(block)]:
            return "the forward of a block changes its buffers (BatchNorm)"
        return None


class _Inside(AbstractContextManager[None]):
    def __init__(self, watch: _Watch, block: int) -> None:
        self._watch, self._block, self._before = watch, block, 0

    def __enter__(self) -> None:
        self._before = self._watch._current
        if self._block:
            self._watch._current = self._block

    def __exit__(self, *_: object) -> None:
        self._watch._current = self._before


def _versions(block: Any) -> list[int]:
    return [buffer._version for buffer in block.buffers()]


def _blocks_of(root: Any) -> list[Any]:
    """The outermost modules of one class that stand in a list, at least two of them."""
    found: list[Any] = []
    waiting: list[Any] = [root]
    while waiting:
        module = waiting.pop()
        children = list(_children(module))
        kinds = [type(child) for child in children]
        lists = type(module).__name__ in ("ModuleList", "Sequential")
        for child in children:
            if lists and kinds.count(type(child)) > 1 and next(child.children(), None) is not None:
                found.append(child)
            else:
                waiting.append(child)
    return found


def _children(module: Any) -> Iterator[Any]:
    yield from (child for child in module.children() if child is not None)
