"""pad-to-longest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .nested import Nested
from .padded_batch import PaddedBatch, Unpadded, padded_batch
from .padding_trial import PaddingTrial
from .root_calls import RootCalls

TRIALS_WITHOUT_MASK = 3
"""Batches that prove it where no mask does, of two lengths at least."""
MOST_TRIALS = 8
"""After as many batches of one length it is proven for that length."""
TRY_AGAIN = 64
"""Without a mask one of so many batches is tried again: two forwards more."""


PARALLEL = "DistributedDataParallel"


class PadToLongest(Fix):
    """Each batch is cut to its own longest row: places that are padding in every row go.

    A mask in the batch says what is padding, and the model is told by it. The first batch that
    could be cut is not: the model gets it both ways, in evaluation mode and without gradients,
    batch norm as in training, its statistics and random numbers put back after that, and what it
    returns for the places that hold data has to be the same. From the next batch on, all tensors
    whose second dimension are these places are cut in the same way.

    Where no mask lies in the batch, rows of whole numbers may be cut that all end in one value,
    always the same: the model may know it for padding. Every module that gets them has to return
    the same both ways for three batches of at least two lengths (for eight, if all have one), and
    for one of 64 after that.

    It is refused where neither lies in the batches, or the model does not get it; where rows are
    filled up at their beginning; where a tensor beside the model's inputs has other values than
    -100 there; where the model fails on a shorter batch or returns something else; where several
    processes train together without DistributedDataParallel, or without a mask; and, without a
    mask, where it returns something for each place and nothing leaves padding out. Rounding
    differs, and dropout draws fewer numbers. A script that counts on the length itself, behind the
    model, fails in a trial.
    """

    id = "pad-to-longest"
    title = "Batches as long as their longest row"
    safety = "numerics"
    rounding = False
    parameters: Mapping[str, type] = {}
    by_hand = 'padding="longest" in the tokenizer\'s call; pad_sequence(rows, batch_first=True)'

    def install(self, process: Process) -> None:
        """Wraps the delivery of batches and, for trials, the calls of root modules."""
        self._torch = process.torch
        self._nested = Nested(process.torch.Tensor)
        self._trial = PaddingTrial(process.torch)
        self._pending: PaddedBatch | None = None
        self._batch: Any = None  # the one that is pending
        self._tried: set[int] = set()  # modules that got it
        self._untried = 0  # batches that no module got
        self._lengths: list[int] = []  # of batches that were tried
        self._fill: int | None = None
        self._proven = False
        self._refused: str | None = None
        self._unpadded: str | None = None
        self._seen = {"batches": 0, "cut": 0, "places_left_out": 0.0}
        iterator = process.torch.utils.data.dataloader._BaseDataLoaderIter
        process.patches.replace(iterator, "__next__", self._next)
        RootCalls(process, self._around)

    def _next(self, original: Any) -> Any:
        def __next__(iterator: Any) -> Any:
            batch = original(iterator)
            if self._refused is not None:
                return batch
            changed = guard.attempt(f"fix {self.id}", self._delivered, batch)
            return batch if changed is None else changed

        return like(original, __next__)

    def _delivered(self, batch: Any) -> Any:
        """What the script is to get."""
        self._end_of_trial()
        self._seen["batches"] += 1
        try:
            padded = padded_batch(self._torch, batch, self._fill)
        except Unpadded as error:
            self._unpadded = str(error)
            return batch
        if self._refused is not None or padded.longest >= padded.length:
            return batch
        if padded.fill is not None and self._trains_with_others():
            self._refused = "without a mask it is tried in one process only; several train together"
            return batch
        if not self._proven or self._is_due(padded):
            self._pending, self._batch, self._tried = padded, batch, set()
            return batch
        if self._trial.beside(batch, padded):
            return batch
        self._seen["cut"] += 1
        left_out = 1.0 - padded.longest / padded.length
        count = self._seen["cut"]
        self._seen["places_left_out"] += (left_out - self._seen["places_left_out"]) / count
        return self._nested.changed(batch, padded.cut)

    def _trains_with_others(self) -> bool:
        """Forwards that only one rank does twice may wait for the others for ever."""
        ranks = self._torch.distributed
        together = ranks.is_available() and ranks.is_initialized() and ranks.get_world_size() > 1
        return bool(together)

    def _is_due(self, padded: PaddedBatch) -> bool:
        return padded.fill is not None and self._seen["batches"] % TRY_AGAIN == 0

    # The trial.

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        padded = self._pending
        if padded is not None and self._refused is None and id(module) not in self._tried:
            if padded.fill is None:
                self._pending = None
            if padded.fill is None or guard.attempt(
                f"fix {self.id}", self._trial.gets, padded, args, kwargs
            ):
                self._tried.add(id(module))
                self._refused = self._why_not(padded, module, call, args, kwargs)
                self._proven = self._proven or (padded.fill is None and self._refused is None)
        return call(*args, **kwargs)

    def _why_not(
        self, padded: PaddedBatch, module: Any, call: Callable[..., Any], args: Any, kwargs: Any
    ) -> str | None:
        if self._trains_with_others():
            if type(module).__name__ != PARALLEL:
                return f"several processes train together, and not by {PARALLEL}"
            module = call = module.module  # its own forward waits for no other rank
        return self._trial.why_not(padded, self._batch, module, call, args, kwargs)

    def _end_of_trial(self) -> None:
        """Without a mask: what the batch before has proven, with every module that got it."""
        padded, self._pending, self._batch = self._pending, None, None
        if padded is None or padded.fill is None or self._refused is not None:
            return
        if not self._tried:
            self._untried += 1
            if self._untried >= MOST_TRIALS and not self._lengths:
                self._refused = "no module gets the rows of the batches as they are"
            return
        self._fill = padded.fill
        self._lengths.append(padded.longest)
        count, lengths = len(self._lengths), len(set(self._lengths))
        enough = count >= TRIALS_WITHOUT_MASK and lengths > 1
        self._proven = self._proven or enough or count >= MOST_TRIALS

    def read_back(self) -> ReadBack:
        """How many batches were cut."""
        seen = {**self._seen, "places_left_out": round(self._seen["places_left_out"], 3)}
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        if self._seen["cut"]:
            return ReadBack(True, seen)
        if self._unpadded is not None:
            return ReadBack(False, seen, self._unpadded)
        return ReadBack(None, seen, "no batch could be cut yet")
