"""Which samples the loaders ask for, epoch by epoch, in a form that does not depend on the order.

Only trials of `tune` record this: a change of the loading must not leave out or repeat a sample.
The training thread keeps a copy of each list of indices (0.1 us for 16 of them); they are hashed
once the training has ended.
"""

from __future__ import annotations

import time
import zlib
from collections import Counter
from dataclasses import dataclass, field
from numbers import Integral
from typing import Any

from ..model.records import Fact
from . import guard
from .patching import Patches, like

MOST_INDICES = 500_000
"""Kept in one process (4 MB); later batches are left out."""
MASK = (1 << 61) - 1
MAPPED = 0
"""`_DatasetKind.Map`: an iterable data set has no indices."""


@dataclass
class _Epoch:
    """One pass over a loader."""

    loader: int = -1
    complete: bool = False
    batches: list[list[Any]] = field(default_factory=list)


class DrawnSamples:
    """Keeps what the samplers hand out.

    Args:
        torch: The user's torch.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._epochs: list[_Epoch] = []
        self._kept = 0

    def install(self, patches: Patches) -> None:
        """Patches where loaders ask their sampler."""
        iterator = self._torch.utils.data.dataloader._BaseDataLoaderIter
        patches.replace(iterator, "_next_index", self._next_index)

    def _next_index(self, original: Any) -> Any:
        def _next_index(iterator: Any) -> Any:
            try:
                index = original(iterator)
            except StopIteration:
                guard.attempt("drawn samples", self._ended, iterator)
                raise
            guard.attempt("drawn samples", self._keep, iterator, index)
            return index

        return like(original, _next_index)

    def _keep(self, iterator: Any, index: Any) -> None:
        epoch = self._epoch(iterator)
        if epoch is None or self._kept > MOST_INDICES:
            return
        batch = list(index) if isinstance(index, (list, tuple)) else [index]
        self._kept += len(batch)
        epoch.batches.append(batch)

    def _ended(self, iterator: Any) -> None:
        epoch = self._epoch(iterator)
        if epoch is not None and self._kept <= MOST_INDICES:
            epoch.complete = True

    def _epoch(self, iterator: Any) -> _Epoch | None:
        """Of this pass; with persistent workers an iterator has several, each with its sampler's.

        The loader's number is known only after the workers have been given their first indices.
        """
        if iterator._dataset_kind != MAPPED:
            return None
        drawn = getattr(iterator, "_trainprof_drawn", None)
        if drawn is None or drawn[0] is not iterator._sampler_iter:
            drawn = iterator._trainprof_drawn = (iterator._sampler_iter, _Epoch())
            self._epochs.append(drawn[1])
        epoch: _Epoch = drawn[1]
        epoch.loader = getattr(iterator, "_trainprof_loader", epoch.loader)
        return epoch

    def facts(self) -> list[Fact]:
        """One for each epoch of each loader."""
        now_ns, passed = time.perf_counter_ns(), Counter[int]()
        facts = []
        for epoch in self._epochs:
            counts = [len(batch) for batch in epoch.batches]
            sums = [sum(map(_hash, batch)) & MASK for batch in epoch.batches]
            data = {"complete": epoch.complete, "counts": counts, "sums": sums}
            key = f"l{epoch.loader}e{passed[epoch.loader]}"
            passed[epoch.loader] += 1
            facts.append(Fact("samples", key, now_ns, data))
        return facts

    def after_fork(self) -> None:
        """The child draws nothing of its own."""
        self._epochs, self._kept = [], 0


def _hash(index: Any) -> int:
    """Such that sums of hashes agree for the same indices only (splitmix64)."""
    if not isinstance(index, Integral):
        return zlib.crc32(repr(index).encode("utf-8", "replace"))
    value = (int(index) * 0x9E3779B97F4A7C15 + 0x9E3779B97F4A7C15) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 30)) * 0xBF58476D1CE4E5B9) & 0xFFFFFFFFFFFFFFFF
    value = ((value ^ (value >> 27)) * 0x94D049BB133111EB) & 0xFFFFFFFFFFFFFFFF
    return value ^ (value >> 31)
