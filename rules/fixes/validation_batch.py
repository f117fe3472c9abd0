"""validation-batch."""

from __future__ import annotations

import weakref
from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .memory import memory_is_short
from .nested import Nested
from .root_calls import RootCalls


class ValidationBatch(Fix):
    """Larger batches in validation, whose forwards keep no graph and have memory to spare.

    The first pass over a loader without gradients is watched. The next ones get larger batches if
    it came to its end, its forwards were in evaluation mode, its samples have one shape, and its
    last batch was smaller than the others, which the model bore. Samples and their order stay.

    What a script sums over batches rounds otherwise, and a mean of the batches' means weighs the
    last batch otherwise: numbers of the validation change in their last digits, the training does
    not.

    A loader is left alone if it drops its last batch, has a sampler of batches of the user's own,
    or is used with gradients too; so is all where memory is short.
    """

    id = "validation-batch"
    title = "Larger batches in validation"
    safety = "numerics"
    by_hand = "DataLoader(validation, batch_size=4 * batch_size)"
    parameters: Mapping[str, type] = {"batch_size": int}
    verifies = ("step.validation_share", "down")

    def install(self, process: Process) -> None:
        """Wraps a loader's `__iter__` and its iterator's `__next__`, and watches root modules."""
        self._torch = torch = process.torch
        self._nested = Nested(torch.Tensor)
        self._wanted = int(self.params.get("batch_size", 0))
        self._loaders: weakref.WeakKeyDictionary[Any, _Passes] = weakref.WeakKeyDictionary()
        self._iterators: weakref.WeakKeyDictionary[Any, _Passes] = weakref.WeakKeyDictionary()
        self._known: list[_Passes] = []
        self._now: _Passes | None = None
        process.patches.replace(torch.utils.data.DataLoader, "__iter__", self._iter)
        iterators = torch.utils.data.dataloader._BaseDataLoaderIter
        process.patches.replace(iterators, "__next__", self._next)
        RootCalls(process, self._around)

    def _iter(self, original: Any) -> Any:
        def __iter__(loader: Any) -> Any:
            passes = guard.attempt(f"fix {self.id}", self._begins, loader)
            iterator = original(loader)
            if passes is not None:
                self._iterators[iterator] = passes
            return iterator

        return like(original, __iter__)

    def _begins(self, loader: Any) -> _Passes | None:
        passes = self._loaders.get(loader)
        if self._torch.is_grad_enabled():
            if passes is not None:
                passes.give_up("the loader is used with gradients too")
            return None
        if passes is None:
            passes = self._loaders[loader] = _Passes(self._torch, loader, self._wanted)
            self._known.append(passes)
        if passes.refused is None and memory_is_short(self._torch):
            passes.give_up("memory is short")
        passes.begin()
        return passes

    def _next(self, original: Any) -> Any:
        def __next__(iterator: Any) -> Any:
            passes = self._iterators.get(iterator)
            if passes is None:
                return original(iterator)
            try:
                batch = original(iterator)
            except StopIteration:
                self._now = None
                passes.finished = True
                raise
            self._now = passes
            if not passes.enlarged and passes.refused is None:
                guard.attempt(f"fix {self.id}", self._look_at, passes, batch)
            return batch

        return like(original, __next__)

    def _look_at(self, passes: _Passes, batch: Any) -> None:
        passes.shapes.add(tuple(tuple(one.shape[1:]) for one in self._nested.tensors(batch)))
        passes.sizes.append({one.shape[0] for one in self._nested.tensors(batch) if one.dim()})

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        passes = self._now
        if self._torch.is_grad_enabled():
            self._now = None  # the pass was left, or is none of a validation
        elif passes is not None:
            passes.forwards += 1
            if module.training:
                passes.give_up("its forwards are in training mode")
        return call(*args, **kwargs)

    def read_back(self) -> ReadBack:
        """The size of the batches of passes that were made with larger ones."""
        enlarged = [one for one in self._known if one.enlarged and one.refused is None]
        if enlarged:
            seen = {"batch_size": self._wanted, "passes": sum(one.large for one in enlarged)}
            return ReadBack(True, seen)
        why = [one.refused for one in self._known if one.refused is not None]
        if why:
            return ReadBack(False, reason=why[0])
        waits = "the first pass is watched only" if self._known else "nothing was validated yet"
        return ReadBack(None, reason=waits)


class _Passes:
    """The passes over one loader without gradients.

    Attributes:
        finished: The latest came to its end. forwards: Of modules, in the passes so far.
        sizes, shapes: Of the batches that were watched.
        enlarged: Its batches are larger now. large: Such passes.
        refused: Why they are not.
    """

    def __init__(self, torch: Any, loader: Any, wanted: int) -> None:
        self._loader = weakref.ref(loader)
        self._wanted = wanted
        self._before: int | None = None
        self.finished = self.enlarged = False
        self.begun = self.forwards = self.large = 0
        self.sizes: list[set[int]] = []
        self.shapes: set[Any] = set()
        self.refused = self._why_not(torch, loader)

    def _why_not(self, torch: Any, loader: Any) -> str | None:
        sampler = _batches_of(loader)
        if type(sampler) is not torch.utils.data.BatchSampler:
            return "its batches are made by something of the script's own"
        if sampler.drop_last:
            return "the loader drops its last batch, and would drop more"
        if not 0 < sampler.batch_size < self._wanted:
            return f"its batches hold {sampler.batch_size} samples already"
        return None

    def begin(self) -> None:
        """A pass begins: with larger batches if the one before has shown that they are fine."""
        self.begun += 1
        if self.refused is None and self.begun > 1 and not self.enlarged:
            reason = self._why_not_now()
            if reason is not None:
                self.refused = reason
            else:
                self._set(self._wanted)
                self.enlarged = True
        elif self.enlarged and not self.finished:
            self.give_up("a pass was left before its end")
        self.large += self.enlarged
        self.finished = False

    def _why_not_now(self) -> str | None:
        if not self.finished:
            return "a pass was left before its end"
        if not self.forwards:
            return "no module was called for it"
        if len(self.shapes) > 1 or any(len(sizes) != 1 for sizes in self.sizes):
            return "its samples differ in shape from batch to batch"
        if len({size for sizes in self.sizes for size in sizes}) < 2:
            return "all its batches have one size, which the model may need"
        return None

    def give_up(self, reason: str) -> None:
        """Batches are as the script has them again."""
        self.refused = self.refused or reason
        if self.enlarged:
            self.enlarged = False
            self._set(self._before)

    def _set(self, size: int | None) -> None:
        loader = self._loader()
        if loader is None:
            return
        sampler = _batches_of(loader)
        self._before, sampler.batch_size = sampler.batch_size, size
        if loader.batch_size is not None:
            vars(loader)["batch_size"] = size  # its class refuses the assignment


def _batches_of(loader: Any) -> Any:
    """What makes batches of indices, also where the loader was given it as its sampler."""
    return loader.batch_sampler if loader.batch_sampler is not None else loader.sampler
