"""embedding-sparse."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .gradient_readers import listening_parameter, reader_is
from .made_objects import MadeAt
from .source_edit import CallArguments

NO_READERS = ("torch.optim.", "torch.nn.modules.module")
"""Modules that take a sparse gradient as it is: the optimizers below, zero_grad and to."""


class EmbeddingSparse(Fix):
    """Gradients of an embedding hold the rows of the batch only, and so does their update.

    `sparse` of the table is set at its first forward in training. The target is the line that makes
    the table, or the one that looks its rows up. Rows that a batch looks up twice
    are added up in another order, the algorithm stays the same: SGD without momentum, or Adagrad.

    It is refused where the update of the other rows would be lost or an error: other optimizers,
    momentum, weight decay, the fused form; `max_norm`, `scale_grad_by_freq`, and bags that take the
    maximum; several optimizers, several processes. It is taken back, and the gradient is made
    dense, where the weight is used elsewhere too (tied), and where anything but the optimizer reads
    the gradient: to clip it, to log it.
    """

    id = "embedding-sparse"
    title = "Sparse gradients of an embedding"
    safety = "numerics"
    parameters: Mapping[str, type] = {"sparse": bool}
    verifies = ("step.optimizer_share", "down")
    made_in_source = True

    def install(self, process: Process) -> None:
        """Watches which tables and optimizers are made, and the first forward of those tables."""
        self._process, self._torch = process, process.torch
        self._chosen = MadeAt(self.target)
        self._optimizers: weakref.WeakSet[Any] = weakref.WeakSet()
        self._waiting: weakref.WeakSet[Any] = weakref.WeakSet()
        self._unmet: weakref.WeakSet[Any] = weakref.WeakSet()
        self._tables: weakref.WeakSet[Any] = weakref.WeakSet()
        self._sparse = 0
        self._refused: str | None = None
        self._listening = listening_parameter(self._torch, f"fix {self.id}", self._on_read)
        process.patches.replace(self._torch.optim.Optimizer, "__init__", self._made)
        for kind in (self._torch.nn.Embedding, self._torch.nn.EmbeddingBag):
            process.patches.replace(kind, "__init__", self._init)
            process.patches.replace(kind, "forward", self._forward)
        process.after_update(self._look)
        process.at_end(self._put_back)

    def _made(self, original: Any) -> Any:
        def __init__(optimizer: Any, *args: Any, **kwargs: Any) -> None:
            original(optimizer, *args, **kwargs)
            self._optimizers.add(optimizer)

        return like(original, __init__)

    def _init(self, original: Any) -> Any:
        def __init__(table: Any, *args: Any, **kwargs: Any) -> None:
            original(table, *args, **kwargs)
            where = self._process.caller()
            chosen = self._chosen.chooses(where, type(table).__qualname__)
            if not table.sparse and (chosen or self.target is not None):
                (self._waiting if chosen else self._unmet).add(table)

        return like(original, __init__)

    def _forward(self, original: Any) -> Any:
        def forward(table: Any, *args: Any, **kwargs: Any) -> Any:
            if self._unmet and table in self._unmet:
                guard.attempt(f"fix {self.id}", self._meet, table)
            if self._waiting and table in self._waiting and self._torch.is_grad_enabled():
                guard.attempt(f"fix {self.id}", self._decide, table)
            return original(table, *args, **kwargs)

        return like(original, forward)

    def _meet(self, table: Any) -> None:
        """Of several tables a finding names the line that looks rows up."""
        self._unmet.discard(table)
        where = self._process.caller()
        if where is not None and (where["file"], where["line"]) == (
            self.target.file,
            self.target.line,
        ):
            self._waiting.add(table)

    def _decide(self, table: Any) -> None:
        """Once an optimizer holds the weight."""
        holders = [one for one in self._optimizers if _group_of(one, table.weight) is not None]
        if not holders:
            return
        self._waiting.discard(table)
        if self._refused is None:
            self._refused = self._why_not(table, holders)
        if self._refused is None:
            checks = self._torch.sparse.check_sparse_tensor_invariants
            if not checks.is_enabled():
                checks.disable()  # as it is already; Adagrad would warn that nobody has said so
            table.sparse = True
            table.weight.__class__ = self._listening
            self._tables.add(table)

    def _why_not(self, table: Any, holders: list[Any]) -> str | None:
        if not table.weight.requires_grad:
            return "the table is not trained"
        if type(table.weight) is not self._torch.nn.Parameter:
            return f"the table's weight is a {type(table.weight).__name__}"
        if table.max_norm is not None or table.scale_grad_by_freq:
            return "max_norm and scale_grad_by_freq need dense gradients"
        if getattr(table, "mode", None) == "max":
            return "a bag that takes the maximum has no sparse gradients"
        distributed = getattr(self._torch, "distributed", None)
        if distributed is not None and distributed.is_available() and distributed.is_initialized():
            return "processes share their gradients"
        if len(holders) > 1:
            return "several optimizers hold the table"
        return self._why_not_with(holders[0], _group_of(holders[0], table.weight) or {})

    def _why_not_with(self, optimizer: Any, group: Mapping[str, Any]) -> str | None:
        optim = self._torch.optim
        name = type(optimizer).__name__
        if type(optimizer) not in (optim.SGD, optim.Adagrad):
            return f"{name} updates all rows at each step; it takes no sparse gradients"
        for setting in ("momentum", "weight_decay", "fused", "differentiable"):
            if group.get(setting):
                return f"{name} with {setting} takes no sparse gradients"
        return None

    def _on_read(self, weight: Any) -> None:
        """Whoever else reads the gradient expects a dense one."""
        if not reader_is(*NO_READERS):
            where = self._process.caller()
            place = f" at {where['file']}:{where['line']}" if where is not None else ""
            self._give_up(f"the script reads the table's gradient{place}")

    def _look(self) -> None:
        """What the gradient itself says, after an update."""
        for table in list(self._tables):
            gradient = table.weight.grad
            if gradient is not None and not gradient.is_sparse:
                self._give_up("the weight is used elsewhere too, where its gradient is dense")
                return
            self._sparse += gradient is not None

    def _give_up(self, reason: str) -> None:
        self._refused = self._refused or reason
        self._put_back()

    def _put_back(self) -> None:
        for table in list(self._tables):
            self._tables.discard(table)
            table.sparse = False
            if type(table.weight) is self._listening:
                table.weight.__class__ = self._torch.nn.Parameter
            gradient = table.weight.grad
            if gradient is not None and gradient.is_sparse:
                table.weight.grad = gradient.to_dense()

    def read_back(self) -> ReadBack:
        """How many gradients came out sparse."""
        seen = {"sparse": self._sparse > 0, "gradients": self._sparse}
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if self._sparse:
            return ReadBack(True, seen)
        if self._tables or self._waiting:
            return ReadBack(None, seen, "the table was not trained yet")
        return ReadBack(False, seen, self._chosen.why_none("embedding"))

    def edit(self) -> CallArguments:
        """`sparse=True` in the very call."""
        return CallArguments(("Embedding", "EmbeddingBag"), {"sparse": True})


def _group_of(optimizer: Any, weight: Any) -> Mapping[str, Any] | None:
    for group in getattr(optimizer, "param_groups", ()):
        if any(one is weight for one in group["params"]):
            return group  # type: ignore[no-any-return]
    return None
