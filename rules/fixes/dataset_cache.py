"""dataset-cache."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from .cached_samples import CachedSamples, NotCached
from .fix import Fix, Process, ReadBack
from .loading import Loading

MOST_DATASETS = 4
"""Kept at a time; a script that makes more makes new ones again and again."""


class DatasetCache(Fix):
    """Samples that come out the same each time are kept once they have been prepared.

    They lie as bytes in memory that loader workers share, half of what is free at most, and beyond
    that in a file without a name, half of the free disk at most. The first time that a sample is
    asked for, the data set prepares it, and no global random number may be drawn meanwhile. Every
    later one is a copy of what was kept. Some of them, the first eight of each epoch and process
    and then one of 64, are prepared again and compared byte for byte; one difference ends it for
    good.

    It is refused for streams; for samples that draw random numbers, or hold other things than
    tensors, arrays, numbers and texts; for a data set with a generator of its own, one that changes
    while it is read or is changed by the script between epochs, and one that makes whole batches
    itself; where all samples would not fit; and where workers are not forked.
    """

    id = "dataset-cache"
    title = "Samples are kept"
    safety = "safe"
    from_second_epoch = True
    parameters: Mapping[str, type] = {"bytes": int}
    verifies = ("step.data_wait_share", "down")
    made_in_source = True
    by_hand = "self.items = [self.prepare(i) for i in range(len(self))] in the data set's __init__"

    def install(self, process: Process) -> None:
        """Wraps the data sets that loaders read."""
        self._torch = process.torch
        self._kept: dict[int, CachedSamples] = {}
        self._refused: str | None = None
        self._loading = Loading(process, self.target, self.id, self._on_fetcher, self._on_loader)

    def _on_loader(self, loader: Any) -> None:
        """In the training process, before workers are forked."""
        kept = self._kept.get(id(loader.dataset))
        if kept is not None:
            kept.begin_epoch()
            return
        try:
            if len(self._kept) >= MOST_DATASETS:
                raise NotCached("the script makes new data sets again and again")
            made = CachedSamples(self._torch, loader, self.params.get("bytes"))
        except NotCached as error:
            self._refused = self._refused or str(error)
        else:
            self._kept[id(loader.dataset)] = made

    def _on_fetcher(self, loader: Any, fetcher: Any) -> None:
        kept = self._kept.get(id(loader.dataset))
        if kept is not None and fetcher.auto_collation:
            fetcher.dataset = kept

    def read_back(self) -> ReadBack:
        """How many samples were kept and looked up, of all data sets."""
        kept = list(self._kept.values())
        seen = {
            name: sum(one.counts.total(name) for one in kept)
            for name in ("kept", "looked_up", "compared")
        }
        refused = next((one.counts.refused for one in kept if one.counts.off), self._refused)
        if refused is not None:
            return ReadBack(False, seen, refused)
        if seen["looked_up"]:
            return ReadBack(True, seen)
        if not kept:
            return ReadBack(None, seen, self._loading.why_none())
        return ReadBack(None, seen, "no sample was asked for a second time yet")
