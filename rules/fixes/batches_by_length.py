"""batches-by-length."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from typing import Any

from .fix import Fix, Process, ReadBack
from .forked_pass import every_sample
from .length_groups import LengthGroups
from .loading import Loading


class BatchesByLength(Fix):
    """Batches are made of rows of similar length, so that little of them is padding.

    The script's own sampler gives the order, with its own random numbers. Every 50 batches of it
    are sorted by length, cut into batches, and these are shuffled. An epoch has the same samples,
    batches of the same size, and as many of them; which samples meet in a batch is another matter,
    so this is never kept without being asked for.

    Lengths are read once, from each sample, in a forked process. It is refused where the order is
    not shuffled by torch's own sampler (a sequence, a weighting, ranks with a part each), for
    streams, where reading all samples takes more than 30 s, and where all have one length.
    """

    id = "batches-by-length"
    title = "Batches of similar lengths"
    safety = "semantics"
    rounding = False
    parameters: Mapping[str, type] = {}
    by_hand = "DataLoader(dataset, batch_sampler=LengthGroups(lengths, batch_size))"

    def install(self, process: Process) -> None:
        """Wraps the batch samplers of loaders when they are first read."""
        self._torch = process.torch
        self._groups: list[LengthGroups] = []
        self._lengths: dict[int, tuple[Any, list[int] | str]] = {}
        self._refused: str | None = None
        self._loading = Loading(process, None, self.id, lambda *_: None, self._on_loader)

    def _on_loader(self, loader: Any) -> None:
        if isinstance(loader.batch_sampler, LengthGroups):
            return
        reason = self._why_not(loader)
        if reason is None:
            lengths = self._lengths_of(loader.dataset)
            if isinstance(lengths, list):
                groups = LengthGroups(loader.batch_sampler, lengths)
                object.__setattr__(loader, "batch_sampler", groups)
                self._groups.append(groups)
                return
            reason = lengths
        self._refused = self._refused or reason

    def _why_not(self, loader: Any) -> str | None:
        data = self._torch.utils.data
        if isinstance(loader.dataset, data.IterableDataset):
            return "the data set is a stream, which comes in its own order"
        if type(loader.batch_sampler) is not data.BatchSampler:
            return "the loader has a batch sampler of its own, or none"
        if type(loader.batch_sampler.sampler) is not data.RandomSampler:
            kind = type(loader.batch_sampler.sampler).__name__
            return f"the order is not a shuffled one of torch's (it is a {kind}'s)"
        return None

    def _lengths_of(self, dataset: Any) -> list[int] | str:
        """Of its samples, or why they are not known; the data set is held with them."""
        if id(dataset) not in self._lengths:
            torch = self._torch

            def look(sample: Any) -> bytes:
                return length_of_row(torch, sample).to_bytes(8, "little")

            found = every_sample(torch, dataset, 8, look)
            lengths: list[int] | str = found if isinstance(found, str) else _numbers(found)
            if isinstance(lengths, list) and len(set(lengths)) < 2:
                lengths = "all samples have the same length"
            self._lengths[id(dataset)] = (dataset, lengths)
        return self._lengths[id(dataset)][1]

    def read_back(self) -> ReadBack:
        """Epochs that were made of such batches."""
        seen = {"loaders": len(self._groups), "epochs": sum(one.epochs for one in self._groups)}
        if seen["epochs"]:
            return ReadBack(True, seen)
        if self._refused is not None:
            return ReadBack(False, seen, self._refused)
        return ReadBack(None, seen, self._loading.why_none())


def _numbers(data: bytes) -> list[int]:
    return [int.from_bytes(data[at : at + 8], "little") for at in range(0, len(data), 8)]


def length_of_row(torch: Any, sample: Any) -> int:
    """Of what varies in a sample: where its mask ends, else its first sequence; 0 for none."""
    if isinstance(sample, Mapping):
        mask = sample.get("attention_mask")
        if mask is not None:
            return int(torch.as_tensor(mask).sum())
        parts = list(sample.values())
    else:
        parts = list(sample) if isinstance(sample, (tuple, list)) else [sample]
        if all(type(part) in (int, float) for part in parts):
            return len(parts)
    numpy = sys.modules.get("numpy")
    for part in parts:
        is_array = numpy is not None and isinstance(part, numpy.ndarray)
        if isinstance(part, torch.Tensor) or is_array:
            if len(part.shape) > 0:
                return int(part.shape[0])
        elif isinstance(part, (list, tuple, str)):
            return len(part)
    return 0
