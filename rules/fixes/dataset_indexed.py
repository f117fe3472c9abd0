"""dataset-indexed."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ...profiler.agent import guard
from .fix import Fix, Process, ReadBack
from .indexed_rows import Indexed, Unsuitable
from .loading import Loading
from .same_values import same_values
from .shared_counts import SharedCounts

CHECKED = 4
"""First batches of each epoch and process, which are made in the usual way too."""
CHECK_AGAIN = 64
"""Then one of so many."""


class DatasetIndexed(Fix):
    """The rows of a batch are taken out of data in memory by one index, not one by one.

    For `TensorDataset`, a `Subset` of one, and data sets of the script's own whose `__getitem__`
    does nothing but `return self.x[i], self.y[i]`, with torch's default collate function. The
    sampler, its random numbers, the order and the batches stay the same. Without workers this is
    quicker than any workers would be.

    The first batches of each epoch, and one of 64 after that, are made both ways; one that differs
    ends it. It is refused for data sets that do more than take rows, for another collate function,
    and for tensors on a device or with gradients.
    """

    id = "dataset-indexed"
    title = "A batch by one index"
    safety = "safe"
    parameters: Mapping[str, type] = {}
    verifies = ("step.data_wait_share", "down")
    by_hand = (
        "DataLoader(dataset, batch_size=None, sampler=BatchSampler(RandomSampler(dataset), "
        "batch_size, drop_last=False))"
    )

    def install(self, process: Process) -> None:
        """Wraps the fetching of batches."""
        self._torch = process.torch
        self._counts = SharedCounts("batches", "checked")
        self._reason: str | None = None
        self._loading = Loading(process, self.target, self.id, self._on_fetcher, self._on_loader)

    def _on_loader(self, loader: Any) -> None:
        try:
            self._indexed(loader)
        except Unsuitable as error:
            self._reason = str(error)

    def _indexed(self, loader: Any) -> Indexed:
        data = self._torch.utils.data
        if isinstance(loader.dataset, data.IterableDataset) or loader.batch_sampler is None:
            raise Unsuitable("the loader does not make batches of samples with a number")
        if loader.collate_fn is not data._utils.collate.default_collate:
            raise Unsuitable("the loader has a collate function of its own")
        return Indexed(self._torch, loader.dataset)

    def _on_fetcher(self, loader: Any, fetcher: Any) -> None:
        if fetcher.dataset is not loader.dataset:  # another fix has wrapped it
            return
        try:
            indexed = self._indexed(loader)
        except Unsuitable:
            return
        fetcher.fetch = self._quickly(indexed, fetcher.fetch)

    def _quickly(self, indexed: Indexed, fetch: Callable[[Any], Any]) -> Callable[[Any], Any]:
        made = 0

        def fetch_quickly(indices: Any) -> Any:
            nonlocal made
            if self._counts.off:
                return fetch(indices)
            batch = guard.attempt(f"fix {self.id}", indexed.batch, indices)
            if batch is None:
                return fetch(indices)
            made += 1
            self._counts.add("batches")
            if made > CHECKED and made % CHECK_AGAIN:
                return batch
            usual = fetch(indices)
            self._counts.add("checked")
            if not same_values(self._torch, batch, usual):
                self._counts.refuse("a batch came out other than the data set makes it")
            return usual

        return fetch_quickly

    def read_back(self) -> ReadBack:
        """How many batches were made by one index."""
        seen = self._counts.totals()
        if self._counts.refused is not None:
            return ReadBack(False, seen, self._counts.refused)
        if seen["batches"]:
            return ReadBack(True, seen)
        if self._reason is not None:
            return ReadBack(False, seen, self._reason)
        return ReadBack(None, seen, self._loading.why_none())
