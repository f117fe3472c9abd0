"""drop-duplicates."""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Mapping
from types import SimpleNamespace
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .distinct_samples import distinct_class
from .fix import Fix, Process, ReadBack
from .flat_values import FlatValues
from .forked_pass import every_sample
from .loading import started_by_fork

DIGEST_BYTES = 16


class DropDuplicates(Fix):
    """Of samples that are equal byte for byte, label included, only the first is trained on.

    When a shuffling loader is made, a forked process reads all samples, with the same seed before
    each, and hashes them. If some are equal, the loader gets the others, in a view of the data set
    that passes its attributes on. Epochs have fewer steps, and copies no longer count several
    times: this is never kept without being asked for. Loaders that do not shuffle, such as those of
    a validation, stay as they are.

    It is refused for streams, for samplers of the script's own, for workers that are not forked,
    for samples that hold other things than tensors, arrays, numbers and texts, where reading all
    samples takes more than 30 s, and where no two are equal.
    """

    id = "drop-duplicates"
    title = "Copies are left out"
    safety = "semantics"
    rounding = False
    parameters: Mapping[str, type] = {"share": float}
    by_hand = "dataset = torch.utils.data.Subset(dataset, first_of_each)"

    def install(self, process: Process) -> None:
        """Wraps `DataLoader.__init__`."""
        self._torch = process.torch
        self._values = FlatValues(process.torch)
        self._view = distinct_class(process.torch)
        self._refused: str | None = None
        self._seen = {"samples": 0, "left_out": 0}
        self._firsts: dict[int, tuple[Any, list[int] | str]] = {}
        loader = process.torch.utils.data.DataLoader
        self._names = list(inspect.signature(loader.__init__).parameters)
        process.patches.replace(loader, "__init__", self._init)

    def _init(self, original: Any) -> Any:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            named = dict(zip(self._names[1:], args, strict=False)) | kwargs
            view = guard.attempt(f"fix {self.id}", self._without_copies, named)
            if view is None:
                original(loader, *args, **kwargs)
            else:
                original(loader, **{**named, "dataset": view})

        return like(original, __init__)

    def _without_copies(self, named: Mapping[str, Any]) -> Any:
        """The data set without copies, None to leave the loader alone."""
        dataset: Any = named.get("dataset")
        if named.get("sampler") is not None or named.get("batch_sampler") is not None:
            self._refuse("the script has a sampler of its own, which numbers the samples")
            return None
        if isinstance(dataset, self._torch.utils.data.IterableDataset):
            self._refuse("the data set is a stream, its samples have no number")
            return None
        asked = SimpleNamespace(
            num_workers=named.get("num_workers") or 0,
            multiprocessing_context=named.get("multiprocessing_context"),
        )
        if not started_by_fork(self._torch, asked):
            self._refuse("workers that are not forked cannot be given a view of the data set")
            return None
        if not named.get("shuffle") or isinstance(dataset, self._view):
            return None
        if id(dataset) not in self._firsts:
            self._firsts[id(dataset)] = (dataset, self._first_of_each(dataset))
        firsts = self._firsts[id(dataset)][1]
        if isinstance(firsts, str):
            self._refuse(firsts)
            return None
        self._seen = {"samples": len(dataset), "left_out": len(dataset) - len(firsts)}
        return self._view(dataset, firsts)

    def _first_of_each(self, dataset: Any) -> list[int] | str:
        def look(sample: Any) -> bytes:
            record = self._values.packed(sample)
            return hashlib.blake2b(record, digest_size=DIGEST_BYTES).digest()

        found = every_sample(self._torch, dataset, DIGEST_BYTES, look)
        if isinstance(found, str):
            return found
        firsts: dict[bytes, int] = {}
        for index in range(len(dataset)):
            firsts.setdefault(found[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES], index)
        if len(firsts) == len(dataset):
            return "no two samples are equal"
        return list(firsts.values())

    def _refuse(self, reason: str) -> None:
        self._refused = self._refused or reason

    def read_back(self) -> ReadBack:
        """How many samples were left out."""
        if self._seen["left_out"]:
            return ReadBack(True, dict(self._seen))
        if self._refused is not None:
            return ReadBack(False, dict(self._seen), self._refused)
        return ReadBack(False, dict(self._seen), "the script makes no loader that shuffles")
