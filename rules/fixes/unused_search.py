"""DistributedDataParallel without its search for unused parameters, once there were none.

Standard library only.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

WATCHED = 5
"""Backwards with the search, in which every parameter of every rank has to take part."""
MOST_NODES = 200_000


class UnusedSearch:
    """Watches one model, and replaces its reducer by one that does not search.

    After so many averaged backwards the ranks agree, in one exchange of a number, whether each of
    them has met each parameter in each of these graphs. If so the next forward makes the reducer
    anew, as unpickling the model would.

    From there on each backward is checked: parameters that it leaves out are handed to the reducer
    at once, as the search would have done. Without that the other ranks would wait for ever.

    Attributes:
        searches: Whether the model still does.
        refused: Why it goes on to search, or why the fix does not count any more.
    """

    def __init__(self, torch: Any, parallel: Any) -> None:
        self._torch = torch
        self._parallel = weakref.ref(parallel)
        self._armed = False  # a forward was made whose backward is to come
        self._complete = True  # so far each backward reached all
        self._backwards = 0
        self._agreed = False
        self.searches = True
        self.refused = _why_not(parallel)

    def forward_begins(self) -> None:
        """A forward with gradients, which are averaged."""
        parallel = self._parallel()
        if parallel is None or not parallel.require_backward_grad_sync:
            return
        if self._armed and self.searches:
            self._complete = False  # a forward without a backward: ranks may differ in those
        self._armed = True
        if self._agreed:
            self._agreed = False
            self._switch(parallel)

    def backward_ended(self, outputs: Iterable[Any], engine: Callable[..., Any]) -> None:
        """Counts it, and completes it where it left parameters out.

        Args:
            outputs: Whose graph it was.
            engine: Torch's own, to run a backward that nobody else hears of.
        """
        parallel = self._parallel()
        if parallel is None or not self._armed:
            return
        if not self.searches:
            self._check(parallel, outputs, engine)
        elif self.refused is None:
            self._watch(parallel, outputs)

    def _watch(self, parallel: Any, outputs: Iterable[Any]) -> None:
        wanted = {id(one) for one in _parameters(parallel)}
        met = wanted & {id(one) for one in _leaves(outputs)}
        if not met:
            return  # the backward of something else
        self._armed = False
        self._complete = self._complete and met == wanted and _is_finished(parallel)
        self._backwards += 1
        if self._backwards == WATCHED:
            self._agree(parallel)

    def _agree(self, parallel: Any) -> None:
        distributed = self._torch.distributed
        complete = self._torch.tensor([float(self._complete)], device=parallel.device)
        least = distributed.ReduceOp.MIN
        distributed.all_reduce(complete, op=least, group=parallel.process_group)
        self._agreed = bool(complete.item())
        if not self._agreed:
            self.refused = "a backward left parameters out, or came in parts, on one of the ranks"

    def _switch(self, parallel: Any) -> None:
        parameters, sparse = parallel._build_params_for_reducer()
        names = parallel._build_debug_param_to_name_mapping(parameters)
        parallel.find_unused_parameters = False
        parallel.reducer._remove_autograd_hooks()
        parallel._ddp_init_helper(parameters, sparse, names, False)
        self.searches = False

    def _check(self, parallel: Any, outputs: Iterable[Any], engine: Callable[..., Any]) -> None:
        if _is_finished(parallel):
            return
        met = {id(one) for one in _leaves(outputs)}
        left_out = [
            (place, one) for place, one in enumerate(_parameters(parallel)) if id(one) not in met
        ]
        without = [one for _, one in left_out if one.grad is None]
        self.refused = "a later step left parameters out; they were averaged as with the search"
        self._hand_over(parallel.reducer, [place for place, _ in left_out], engine)
        for one in without:
            if one.grad is not None and not one.grad.any():
                one.grad = None  # no rank has used it

    def _hand_over(self, reducer: Any, places: list[int], engine: Callable[..., Any]) -> None:
        """Inside of a backward, where the reducer may wait for the exchange at its end."""
        torch = self._torch

        class HandOver(torch.autograd.Function):  # type: ignore[name-defined, misc]
            @staticmethod
            def forward(context: Any, x: Any) -> Any:
                return x.clone()

            @staticmethod
            def backward(context: Any, gradient: Any) -> Any:
                for place in places:
                    reducer._autograd_hook(place)
                return gradient

        with torch.enable_grad():
            start = torch.zeros(1, requires_grad=True)
            end = HandOver.apply(start)
        engine((end,), (torch.ones(1),), False, False, (), True, accumulate_grad=True)


def _is_finished(parallel: Any) -> bool:
    """Whether all that was begun is averaged."""
    try:
        parallel.reducer._check_reducer_finalized()
    except RuntimeError:
        return False
    return True


def _parameters(parallel: Any) -> list[Any]:
    """In the reducer's order."""
    return list(parallel._build_params_for_reducer()[0])


def _leaves(outputs: Iterable[Any]) -> Iterator[Any]:
    """What the outputs' graphs end in."""
    waiting = [one.grad_fn for one in outputs if getattr(one, "grad_fn", None) is not None]
    seen = set(waiting)
    while waiting and len(seen) < MOST_NODES:
        node = waiting.pop()
        if type(node).__name__ == "AccumulateGrad":
            yield node.variable
        for following, _ in node.next_functions:
            if following is not None and following not in seen:
                seen.add(following)
                waiting.append(following)


def _why_not(parallel: Any) -> str | None:
    if not parallel.find_unused_parameters:
        return "it does not search for unused parameters"
    if parallel.static_graph:
        return "static_graph=True knows them already"
    if getattr(parallel, "_comm_hooks", None):
        return "the script has a communication hook"
    if getattr(parallel, "mixed_precision", None) is not None:
        return "it averages in another precision"
    if getattr(parallel, "_use_python_reducer", False):
        return "torch.compile makes the exchange part of the backward"
    return None
