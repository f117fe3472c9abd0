"""Whether a model returns the same for a batch and for the batch without common padding.

Standard library only.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from ...profiler.agent import guard
from .nested import Nested
from .padded_batch import IGNORED, PaddedBatch
from .random_state import RandomNumbersKept

TOLERANCE = 1e-3
"""Relative; sums over fewer zeros differ by rounding only."""
NAME = "pad-to-longest trial"
NO_MASK = "the model is not told by a mask what is padding"


class PaddingTrial:
    """Gives a model batches both ways.

    Args:
        torch: The user's torch.

    Attributes:
        inputs: Places, among a batch's tensors, of those that the model gets.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._nested = Nested(torch.Tensor)
        self.inputs: set[int] = set()

    def why_not(
        self,
        padded: PaddedBatch,
        batch: Any,
        module: Any,
        call: Callable[..., Any],
        args: Any,
        kwargs: Any,
    ) -> str | None:
        """Why batches may not be cut; None where the model returns the same."""
        reason: str | None = guard.attempt(
            NAME, self._why_not, padded, batch, module, call, args, kwargs
        )
        error = guard.error_of(NAME)
        if error is not None:
            reason = f"the model fails on a shorter batch ({error[:120]})"
            guard.failures[:] = [one for one in guard.failures if one[0] != NAME]
        return reason

    def gets(self, padded: PaddedBatch, args: Any, kwargs: Any) -> bool:
        """Whether a call is given the table."""
        return any(
            tensor.shape == padded.table.shape
            and self._torch.equal(tensor.to("cpu"), padded.table.to(tensor.dtype))
            for tensor in self._nested.tensors((args, kwargs))
        )

    def beside(self, batch: Any, padded: PaddedBatch) -> bool:
        """Whether a tensor that the model did not get holds something in the padding."""
        rest = [
            tensor[:, padded.longest :]
            for place, tensor in enumerate(self._nested.tensors(batch))
            if padded.is_long(tensor) and place not in self.inputs and tensor is not padded.table
        ]
        return not all(bool((part == IGNORED).all()) for part in rest)

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
        self.inputs |= self._inputs_among(batch, given)
        if self.beside(batch, padded):
            return f"a tensor beside the model's inputs is not {IGNORED} in the padding"
        long = [tensor for tensor in given if padded.is_long(tensor)]
        if padded.fill is None and not any(self._is_told(padded, tensor) for tensor in long):
            return NO_MASK
        if any(padded.length in tensor.shape[2:] for tensor in given):
            return "an input of the model has the length of the rows twice"
        cut_args, cut_kwargs = self._nested.changed((args, kwargs), padded.cut)
        with self._evaluating(module), RandomNumbersKept(self._torch), self._torch.no_grad():
            whole = list(self._nested.tensors(call(*args, **kwargs)))
            cut = list(self._nested.tensors(call(*cut_args, **cut_kwargs)))
        same = len(whole) == len(cut) and all(
            self._is_same(padded, *pair) for pair in zip(whole, cut, strict=True)
        )
        if not same or not whole:
            return "the model returns something else for a shorter batch"
        return self._of_places(padded, batch, whole)

    def _of_places(self, padded: PaddedBatch, batch: Any, outputs: list[Any]) -> str | None:
        """Without a mask: whether the script may count what is returned for padding."""
        if padded.fill is None or not any(padded.is_long(one) for one in outputs):
            return None
        ignored = any(
            padded.is_long(tensor) and bool((tensor[:, padded.longest :] == IGNORED).all())
            for tensor in self._nested.tensors(batch)
        )
        if ignored or any(one.dim() == 0 for one in outputs):  # labels, or a loss that is the same
            return None
        return "the model returns something for each place, and no mask or label leaves padding out"

    @contextmanager
    def _evaluating(self, module: Any) -> Iterator[None]:
        """Evaluation mode, but batch norm as in training: it counts padding only there."""
        parts = list(module.modules())
        modes = [(part, part.training) for part in parts]
        kinds = self._torch.nn.modules.batchnorm
        norms = [part for part in parts if isinstance(part, kinds._BatchNorm) and part.training]
        norms = [part for part in norms if not isinstance(part, kinds.SyncBatchNorm)]  # it waits
        kept = [(one, one.clone()) for part in norms for one in part.buffers(recurse=False)]
        try:
            module.eval()
            for part in norms:
                part.training = True
            yield
        finally:
            for part, training in modes:
                part.training = training
            with self._torch.no_grad():
                for one, values in kept:
                    one.copy_(values)

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
        if tensor.shape != padded.table.shape:
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
