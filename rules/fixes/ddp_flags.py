"""ddp-flags."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Process, ReadBack
from .parallel_arguments import ParallelArguments
from .unused_search import UnusedSearch

NAME = "fix ddp-flags"


class DdpFlags(ParallelArguments):
    """Switches of DistributedDataParallel: `find_unused_parameters`, `gradient_as_bucket_view`.

    `gradient_as_bucket_view=True` saves a copy of all gradients and its memory. Gradients are then
    views; `grad.detach_()`, which torch refuses for views and which does nothing to a gradient
    without a graph, is left out.

    `find_unused_parameters=False` comes into force after five backwards in which every rank met
    every parameter. If a later backward leaves one out, it is averaged as the search would have
    done, before any rank waits, and the fix counts as not in force.

    `static_graph=True` is left to a person's hand: where the graph changes later, torch raises in
    the middle of a backward, and a look at the graph before each one is the search that it saves.

    The search goes on where a watched backward leaves parameters out or comes in parts, for
    `static_graph`, communication hooks, and exchanges in another precision.
    """

    id = "ddp-flags"
    title = "Switches of DistributedDataParallel"
    safety = "safe"
    parameters: Mapping[str, type] = {
        "find_unused_parameters": bool,
        "gradient_as_bucket_view": bool,
    }

    def install(self, process: Process) -> None:
        """Wraps DDP's `__init__` and forward, the backward, and `Tensor.detach_`."""
        super().install(process)
        self._search: UnusedSearch | None = None
        if self._refused is not None:
            return
        torch = process.torch
        if self.params.get("gradient_as_bucket_view"):
            process.patches.replace(torch.Tensor, "detach_", self._detach)
        if self.params.get("find_unused_parameters") is False:
            parallel = torch.nn.parallel.DistributedDataParallel
            process.patches.replace(parallel, "forward", self._forward)
            process.patches.replace(torch.autograd, "_engine_run_backward", self._engine)

    def _why_not(self, named: Mapping[str, Any]) -> str | None:
        if self.params.get("find_unused_parameters"):
            return "a search is not switched on by a fix"
        if self.params.get("gradient_as_bucket_view") is False:
            return "views are not switched off by a fix"
        return None

    def _wanted(self) -> dict[str, Any]:
        """The search goes on until the model was watched."""
        views = self.params.get("gradient_as_bucket_view")
        return {} if views is None else {"gradient_as_bucket_view": views}

    def _made(self, parallel: Any) -> None:
        if self.params.get("find_unused_parameters") is False:
            self._search = UnusedSearch(self._process.torch, parallel)
        self._look()

    def _forward(self, original: Any) -> Any:
        torch = self._process.torch

        def forward(parallel: Any, *args: Any, **kwargs: Any) -> Any:
            latest = self._latest() if self._latest is not None else None
            if parallel is latest and torch.is_grad_enabled() and self._search is not None:
                guard.attempt(NAME, self._search.forward_begins)
            return original(parallel, *args, **kwargs)

        return like(original, forward)

    def _engine(self, original: Any) -> Any:
        in_backward = getattr(self._process.torch._C, "_current_graph_task_id", lambda: -1)

        def _engine_run_backward(outputs: Any, *args: Any, **kwargs: Any) -> Any:
            result = original(outputs, *args, **kwargs)
            if self._search is not None and in_backward() == -1:
                guard.attempt(NAME, self._search.backward_ended, outputs, original)
                guard.attempt(NAME, self._look)
            return result

        return like(original, _engine_run_backward)

    def _detach(self, original: Any) -> Any:
        def detach_(tensor: Any) -> Any:
            if tensor.grad_fn is None and not tensor.requires_grad and tensor._is_view():
                return tensor  # nothing to detach, and refused for a view
            return original(tensor)

        return like(original, detach_)

    def _look(self) -> None:
        parallel = self._latest() if self._latest is not None else None
        if parallel is None:
            return
        self._seen = {
            name: bool(getattr(parallel, name)) for name in self.parameters if name in self.params
        }
        if self._search is not None:
            self._refused = self._search.refused

    def read_back(self) -> ReadBack:
        """The model's own flags; not known as long as it is watched."""
        state = super().read_back()
        if self._refused is None and self._search is not None and self._search.searches:
            return ReadBack(None, state.seen, "the first backwards are watched only")
        return state
