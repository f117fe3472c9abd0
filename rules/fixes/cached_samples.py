"""A data set whose samples are kept once they have been prepared. Standard library only."""

from __future__ import annotations

import shutil
import tempfile
from typing import Any

from ...profiler.agent import guard
from .dataset_state import changed_part, fingerprint, own_generator
from .flat_values import FlatValues, NoFlatValue
from .forked_sample import forked_sample
from .loading import started_by_fork
from .memory import host_memory
from .random_state import random_state
from .shared_counts import SharedCounts
from .shared_store import SharedStore

COMPARED = 8
"""First samples looked up in each epoch and process that are prepared again."""
COMPARE_AGAIN = 64
"""Then one of so many."""
WATCHED = 8
"""First samples prepared in each process before and after which the data set is looked at."""
MOST_OF_FREE = 0.5
"""Of the memory and of the disk that are free."""
SURPLUS = 1.1
"""On what the samples were reckoned to take."""
RECORD_BYTES = 512
"""Around each sample: its arrangement, its entry, alignment."""
MEGABYTE = 1_000_000


class NotCached(Exception):
    """Why the samples are not kept."""


class CachedSamples:
    """Stands in a loader's fetcher for its data set.

    Args:
        torch: The user's torch.
        loader: That reads it.
        size: Bytes of all samples; None where that is not known.

    Attributes:
        counts: Of all processes.

    Raises:
        NotCached: its samples cannot be kept.
    """

    def __init__(self, torch: Any, loader: Any, size: int | None) -> None:
        self._torch = torch
        self._dataset = loader.dataset
        self.counts = SharedCounts("kept", "looked_up", "compared")
        self._values = FlatValues(torch)
        records = _suits(torch, loader)
        self._store = _store(records, size or _sampled_bytes(torch, loader, records))
        self._state = fingerprint(self._dataset)
        self._prepared = self._looked_up = 0

    def begin_epoch(self) -> None:
        """In the training process: the script may have changed the data set since."""
        self._looked_up = 0  # the first of each epoch are compared
        before, self._state = self._state, fingerprint(self._dataset)
        part = changed_part(before, self._state)
        if part is not None:
            self.counts.refuse(f"the script changes the data set between epochs ({part})")

    def __len__(self) -> int:
        return len(self._dataset)

    def __getitem__(self, index: Any) -> Any:
        if self.counts.off or type(index) is not int or index < 0:
            return self._dataset[index]
        found = self._store.get(index)
        if found is None:
            return self._first(index)
        self._looked_up += 1
        self.counts.add("looked_up")
        if self._looked_up <= COMPARED or self._looked_up % COMPARE_AGAIN == 0:
            return self._again(index, *found)
        buffer, offset, _ = found
        value = guard.attempt("fix dataset-cache", self._values.unpacked, buffer, offset)
        return value if value is not None else self._dataset[index]

    def _first(self, index: int) -> Any:
        """Prepares a sample, and keeps it if that is safe."""
        watched = self._prepared < WATCHED
        self._prepared += 1
        held = fingerprint(self._dataset) if watched else ()
        drawn = random_state(self._torch)
        value = self._dataset[index]
        if random_state(self._torch) != drawn:
            self.counts.refuse("its samples draw random numbers")
            return value
        part = changed_part(held, fingerprint(self._dataset)) if watched else None
        if part is not None:
            self.counts.refuse(f"the data set changes when it is read ({part})")
            return value
        record = self._packed(value)
        if record is not None and self._store.put(index, record):
            self.counts.add("kept")
        return value

    def _packed(self, value: Any) -> bytearray | None:
        try:
            return self._values.packed(value)
        except NoFlatValue as error:
            self.counts.refuse(f"its samples hold {error}, which are not kept")
            return None

    def _again(self, index: int, buffer: Any, offset: int, length: int) -> Any:
        """Prepares a sample that is kept, and compares."""
        value = self._dataset[index]
        self.counts.add("compared")
        if self._packed(value) != buffer[offset : offset + length]:
            self.counts.refuse("a sample came out otherwise the second time")
        return value


def _suits(torch: Any, loader: Any) -> int:
    """How many samples there are."""
    dataset = loader.dataset
    data = torch.utils.data
    if isinstance(dataset, data.IterableDataset):
        raise NotCached("the data set is a stream, its samples have no number")
    if loader.batch_sampler is None:
        raise NotCached("the loader does not make batches of single samples")
    if getattr(dataset, "__getitems__", None) is not None and type(dataset) is not data.Subset:
        raise NotCached("the data set makes whole batches itself")
    generator = own_generator(dataset)
    if generator is not None:
        raise NotCached(f"the data set has a random generator of its own ({generator})")
    if not started_by_fork(torch, loader):
        raise NotCached("workers that are not forked share no memory")
    try:
        return len(dataset)
    except (TypeError, NotImplementedError):
        raise NotCached("the data set does not say how many samples it has") from None


def _sampled_bytes(torch: Any, loader: Any, records: int) -> int:
    """What the samples take, by one that a forked process prepares."""
    sample = forked_sample(torch, {"dataset": loader.dataset, "batch_size": 1})
    if sample.problem is not None:
        raise NotCached(sample.problem)
    return (sample.batch_bytes or 0) * records


def _store(records: int, size: int) -> SharedStore:
    wanted = int(size * SURPLUS) + records * RECORD_BYTES
    available, _ = host_memory()
    memory = min(wanted, int(MOST_OF_FREE * (available or 0)))
    disk = wanted - memory
    free = shutil.disk_usage(tempfile.gettempdir()).free
    if disk > MOST_OF_FREE * free:
        raise NotCached(
            f"all samples take {wanted / MEGABYTE:.0f} MB, half of what is free is "
            f"{memory / MEGABYTE:.0f} MB of memory and {MOST_OF_FREE * free / MEGABYTE:.0f} MB of "
            "disk"
        )
    try:
        return SharedStore(records, memory, disk)
    except OSError as error:
        raise NotCached(f"the samples cannot be kept ({error.strerror})") from None
