"""pad-to-longest."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .nested import Nested
from .padded_batch import IGNORED, PaddedBatch, Unpadded, padded_batch
from .random_state import RandomNumbersKept
from .root_calls import RootCalls

TOLERANCE = 1e-3
"""Relative; sums over fewer zeros differ by rounding only."""
TRIAL = "pad-to-longest trial"


class PadToLongest(Fix):
    """Each batch is cut to its own longest row: places that are padding in every row go.

    Only where the batch says by a mask what is padding, and the model is told by it. The first
    batch that could be cut is not: the model gets it both ways, in evaluation mode and without
    gradients, random numbers put back after that, and what it returns for the places that hold data
    has to be the same. From the next batch on, all tensors whose second dimension are these places
    are cut in the same way.

    It is refused where no mask lies in the batches, or the model does not get it; where rows are
    filled up at their beginning; where a tensor beside the model's inputs has other values than
    -100 there; where the model fails on a shorter batch or returns something else. Rounding
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
        """Wraps the delivery of batches and, until the trial, the calls of root modules."""
        self._torch = process.torch
        self._nested = Nested(process.torch.Tensor)
        self._pending: PaddedBatch | None = None
        self._batch: Any = None  # the one that is pending
        self._inputs: set[int] = set()  # which of a batch's tensors the model gets
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
        self._seen["batches"] += 1
        try:
            padded = padded_batch(self._torch, batch)
        except Unpadded as error:
            self._unpadded = str(error)
            return batch
        if padded.longest >= padded.length:
            return batch
        if not self._proven:
            self._pending, self._batch = padded, batch
            return batch
        if self._beside(batch, padded):
            return batch
        self._seen["cut"] += 1
        left_out = 1.0 - padded.longest / padded.length
        count = self._seen["cut"]
        self._seen["places_left_out"] += (left_out - self._seen["places_left_out"]) / count
        return self._nested.changed(batch, padded.cut)

    def _beside(self, batch: Any, padded: PaddedBatch) -> bool:
        """Whether a tensor that the model did not get holds something in the padding."""
        rest = [
            tensor[:, padded.longest :]
            for place, tensor in enumerate(self._nested.tensors(batch))
            if padded.is_long(tensor) and place not in self._inputs and tensor is not padded.mask
        ]
        return not all(bool((part == IGNORED).all()) for part in rest)

    # The trial.

    def _around(self, module: Any, call: Callable[..., Any], args: Any, kwargs: Any) -> Any:
        padded, batch, self._pending, self._batch = self._pending, self._batch, None, None
        if padded is not None and not self._proven and self._refused is None:
            reason = guard.attempt(TRIAL, self._why_not, padded, batch, module, call, args, kwargs)
            error = guard.error_of(TRIAL)
            if error is not None:
                reason = f"the model fails on a shorter batch ({error[:120]})"
                guard.failures[:] = [one for one in guard.failures if one[0] != TRIAL]
            self._refused = reason
            self._proven = reason is None
        return call(*args, **kwargs)

    def _why_not(
        self,
        padded: PaddedBatch,
        batch: Any,
        module: Any,
        call: Callable[..., Any],
        args: Any,
        kwargs: Any,
    ) -> str | None:
        given = list(self._nested.tensors((args, kwargs)))
        self._inputs = self._inputs_among(batch, given)
        if self._beside(batch, padded):
            return f"a tensor beside the model's inputs is not {IGNORED} in the padding"
        long = [tensor for tensor in given if padded.is_long(tensor)]
        if not any(self._is_told(padded, tensor) for tensor in long):
            return "the model is not told by a mask what is padding"
        if any(padded.length in tensor.shape[2:] for tensor in given):
            return "an input of the model has the length of the rows twice"
        cut_args, cut_kwargs = self._nested.changed((args, kwargs), padded.cut)
        modes = [(part, part.training) for part in module.modules()]
        try:
            module.eval()
            with RandomNumbersKept(self._torch), self._torch.no_grad():
                whole = list(self._nested.tensors(call(*args, **kwargs)))
                cut = list(self._nested.tensors(call(*cut_args, **cut_kwargs)))
        finally:
            for part, training in modes:
                part.training = training
        same = len(whole) == len(cut) and all(
            self._is_same(padded, *pair) for pair in zip(whole, cut, strict=True)
        )
        return None if same and whole else "the model returns something else for a shorter batch"

    def _inputs_among(self, batch: Any, given: list[Any]) -> set[int]:
        """Which tensors of the batch are among those that the model gets, by their values."""
        here = [tensor.to("cpu") for tensor in given]
        return {
            place
            for place, tensor in enumerate(self._nested.tensors(batch))
            if any(
                other.shape == tensor.shape and self._torch.equal(other, tensor.to(other.dtype))
                for other in here
            )
        }

    def _is_told(self, padded: PaddedBatch, tensor: Any) -> bool:
        if tensor.shape != padded.mask.shape:
            return False
        here = tensor.to("cpu")
        return any(
            self._torch.equal(here.bool(), mask) for mask in (padded.valid, ~padded.valid)
        ) and bool(((here == 0) | (here == 1)).all())

    def _is_same(self, padded: PaddedBatch, whole: Any, cut: Any) -> bool:
        valid = padded.valid[:, : padded.longest].to(cut.device)
        if padded.is_long(whole) and cut.shape[:2] == valid.shape:
            whole, cut = whole[:, : padded.longest][valid], cut[valid]
        if whole.shape != cut.shape:
            return False
        if not whole.is_floating_point():
            return bool(self._torch.equal(whole, cut))
        scale = float(whole.abs().max()) if whole.numel() else 0.0
        return bool(self._torch.allclose(whole, cut, rtol=TOLERANCE, atol=TOLERANCE * scale))

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
