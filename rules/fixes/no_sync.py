"""no-sync."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .accumulation import Accumulation
from .fix import Fix, Process, ReadBack
from .source_edit import SourceEdit, WithoutSync

NAME = "fix no-sync"
READERS = ("clip_grad_norm_", "clip_grad_value_")
"""Functions of `torch.nn.utils` that need averaged gradients."""


class NoSync(Fix):
    """DistributedDataParallel averages gradients with the last micro-batch of an update only.

    The first updates are watched. Where three in a row have the same number of micro-batches, and
    nothing touches gradients between them, the forwards before the last run as under `no_sync()`.
    What comes beyond that number is averaged as ever. An update that comes earlier (an epoch's
    rest) gets its gradients averaged first: before they are clipped, unscaled or used.

    It is refused where the number varies, where the script uses `no_sync()` itself, for
    `static_graph`, communication hooks, `Join`, sparse gradients, optimizers that run inside of the
    backward, and for forwards inside of `optimizer.step(closure)`.
    """

    id = "no-sync"
    title = "One exchange of gradients per update"
    safety = "numerics"
    parameters: Mapping[str, type] = {}
    verifies = ("step.comm_exposed_share", "down")

    def install(self, process: Process) -> None:
        """Wraps DDP's forward and `no_sync`, the backward, and what uses gradients."""
        self._torch = torch = process.torch
        self._models: weakref.WeakKeyDictionary[Any, _Model] = weakref.WeakKeyDictionary()
        self._exchanges: list[_Exchanges] = []  # of all models; these may be gone at the end
        self._updating = False
        self._refused: str | None = None
        if not torch.distributed.is_available():
            self._refused = "this torch cannot train in several processes"
            return
        parallel = torch.nn.parallel.DistributedDataParallel
        process.patches.replace(parallel, "forward", self._forward)
        process.patches.replace(parallel, "no_sync", self._no_sync)
        process.patches.replace(torch.autograd, "_engine_run_backward", self._engine)
        for name in READERS:
            process.patches.replace(torch.nn.utils, name, self._clips)
        if hasattr(torch.amp, "GradScaler"):  # torch 2.3
            process.patches.replace(torch.amp.GradScaler, "unscale_", self._unscales)
        process.before_update(self._before_update)
        process.after_update(self._after_update)

    def _forward(self, original: Any) -> Any:
        compiling = self._torch.compiler.is_dynamo_compiling

        def forward(module: Any, *args: Any, **kwargs: Any) -> Any:
            if not compiling() and self._torch.is_grad_enabled():
                guard.attempt(NAME, self._before_forward, module)
                if not guard.enabled(NAME) and module in self._models:
                    self._models[module].give_up("it failed")
            return original(module, *args, **kwargs)

        return like(original, forward)

    def _before_forward(self, module: Any) -> None:
        model = self._model_of(module)
        if module.require_backward_grad_sync is not model.flag:
            model.give_up("the script switches the exchange itself")
        elif self._updating:
            model.give_up("the optimizer calls the model itself")
        elif module._join_config.enable:
            model.give_up("the ranks have different numbers of batches (Join)")
        model.forward_begins()

    def _model_of(self, module: Any) -> _Model:
        model = self._models.get(module)
        if model is None:
            model = self._models[module] = _Model(self._torch, module)
            self._exchanges.append(model.exchanges)
        return model

    def _no_sync(self, original: Any) -> Any:
        def no_sync(module: Any) -> Any:
            guard.attempt(NAME, self._uses_no_sync, module)
            return original(module)

        return like(original, no_sync)

    def _uses_no_sync(self, module: Any) -> None:
        self._model_of(module).give_up("the script uses no_sync() itself")

    def _engine(self, original: Any) -> Any:
        in_backward = getattr(self._torch._C, "_current_graph_task_id", lambda: -1)

        def _engine_run_backward(*args: Any, **kwargs: Any) -> Any:
            result = original(*args, **kwargs)
            if in_backward() == -1:
                guard.attempt(NAME, self._after_backward)
            return result

        return like(original, _engine_run_backward)

    def _after_backward(self) -> None:
        for model in self._models.values():
            model.accumulation.backward_ended()

    def _clips(self, original: Any) -> Any:
        def with_averages(parameters: Any, *args: Any, **kwargs: Any) -> Any:
            if not isinstance(parameters, self._torch.Tensor):
                parameters = list(parameters)
                guard.attempt(NAME, self._before_clipping, parameters)
            return original(parameters, *args, **kwargs)

        return like(original, with_averages)

    def _before_clipping(self, parameters: list[Any]) -> None:
        for model in list(self._models.values()):
            if model.accumulation.holds(parameters):
                model.average()

    def _unscales(self, original: Any) -> Any:
        def unscale_(scaler: Any, optimizer: Any) -> Any:
            guard.attempt(NAME, self._before_unscaling, optimizer)
            return original(scaler, optimizer)

        return like(original, unscale_)

    def _before_unscaling(self, optimizer: Any) -> None:
        for model in list(self._models.values()):
            if model.accumulation.is_held_by(optimizer):
                model.average()

    def _before_update(self, optimizer: Any) -> None:
        self._updating = True
        for model in list(self._models.values()):
            if model.accumulation.is_held_by(optimizer):
                model.update_begins()

    def _after_update(self) -> None:
        self._updating = False

    def read_back(self) -> ReadBack:
        """How many exchanges were left out, and of how many micro-batches updates are made."""
        if self._refused is not None or not self._exchanges:
            return ReadBack(False, reason=self._refused or "no model is a DistributedDataParallel")
        most = max(self._exchanges, key=lambda one: one.left_out)
        seen = {
            "micro_batches": most.micro_batches,
            "left_out": most.left_out,
            "averaged_at_update": most.averaged_at_update,
        }
        if most.refused is not None:
            return ReadBack(False, seen, most.refused)
        if not most.left_out:
            return ReadBack(None, seen, "too few updates were made")
        return ReadBack(True, seen)

    def edit(self) -> SourceEdit:
        """The micro-batch in `with ... model.no_sync():`."""
        return WithoutSync()


@dataclass
class _Exchanges:
    """What was done for one model.

    Attributes:
        micro_batches: Of an update. left_out: Forwards without an exchange.
        averaged_at_update: Updates that came early. refused: Why all are exchanged.
    """

    micro_batches: int | None = None
    left_out: int = 0
    averaged_at_update: int = 0
    refused: str | None = None


class _Model:
    """One DDP module: whether its gradients are averaged.

    Attributes:
        flag: What the module's `require_backward_grad_sync` was left at.
    """

    def __init__(self, torch: Any, module: Any) -> None:
        self._torch = torch
        self._module = weakref.ref(module)
        self.accumulation = Accumulation(_own_parameters(module))
        self.flag = bool(module.require_backward_grad_sync)
        self._averages_wanted = False
        self.exchanges = _Exchanges(refused=_why_not(module, self.accumulation.parameters))

    def give_up(self, reason: str) -> None:
        """From here on as the script has it."""
        module = self._module()
        if self.exchanges.refused is None and module is not None and not self.flag:
            module.require_backward_grad_sync = self.flag = True
        self.exchanges.refused = self.exchanges.refused or reason

    def forward_begins(self) -> None:
        """Switches the exchange of the backward to come."""
        self.accumulation.forward_begins()
        period, module = self.accumulation.period, self._module()
        if self.accumulation.refused is not None:
            self.give_up(self.accumulation.refused)
        if self.exchanges.refused is not None or period is None or module is None:
            self._averages_wanted = False  # this backward averages all that is there
            return
        self.flag = module.require_backward_grad_sync = self.accumulation.forwards >= period
        self._averages_wanted = not self.flag
        self.exchanges.left_out += not self.flag

    def update_begins(self) -> None:
        """Averages what is left over."""
        self.average()
        self.accumulation.update_begins()
        self.exchanges.micro_batches = self.accumulation.period
        if self.accumulation.period == 1:
            self.give_up("each update has one micro-batch")
        gradients = (one.grad for one in self.accumulation.parameters)
        if any(one is not None and one.is_sparse for one in gradients):
            self.give_up("it has sparse gradients")

    def average(self) -> None:
        """Averages gradients over the ranks now; all ranks come here after as many forwards."""
        module = self._module()
        if not self._averages_wanted or module is None:
            return
        self._averages_wanted = False
        self.exchanges.averaged_at_update += 1
        torch, group = self._torch, module.process_group
        parameters = self.accumulation.parameters
        with torch.no_grad():
            used = [float(one.grad is not None) for one in parameters]
            everywhere = torch.tensor(used, device=parameters[0].device)
            torch.distributed.all_reduce(everywhere, group=group)
            chosen = [
                one for one, count in zip(parameters, everywhere.tolist(), strict=True) if count
            ]
            for dtype in {one.dtype for one in chosen}:
                _average(torch, [one for one in chosen if one.dtype == dtype], group)


def _average(torch: Any, parameters: list[Any], group: Any) -> None:
    """In one exchange; `parameters` are of one type."""
    for one in parameters:
        if one.grad is None:
            one.grad = torch.zeros_like(one)
    flat = torch.cat([one.grad.reshape(-1) for one in parameters])
    flat /= torch.distributed.get_world_size(group)
    torch.distributed.all_reduce(flat, group=group)
    pieces = flat.split([one.numel() for one in parameters])
    for one, piece in zip(parameters, pieces, strict=True):
        one.grad.copy_(piece.view_as(one.grad))


def _own_parameters(module: Any) -> list[Any]:
    """Those whose gradients are exchanged."""
    ignored = set(getattr(module, "parameters_to_ignore", ()))
    return [one for name, one in module.module.named_parameters() if name not in ignored]


def _why_not(module: Any, parameters: list[Any]) -> str | None:
    if module.static_graph:
        return "static_graph=True takes all backwards for equal"
    if getattr(module, "_comm_hooks", None):
        return "the script has a communication hook"
    if getattr(module, "mixed_precision", None) is not None:
        return "it averages in another precision"
    if any(getattr(one, "_in_backward_optimizers", None) for one in parameters):
        return "its optimizer runs inside of the backward"
    if getattr(module, "_use_python_reducer", False):
        return "torch.compile makes the exchange part of the backward"
    return None
