"""loader-kept."""

from __future__ import annotations

import weakref
from collections.abc import Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .dataset_state import fingerprint
from .fix import Process, ReadBack
from .loader_arguments import LoaderArguments, draw_start
from .source_edit import SourceEdit

ALIKE = (
    *("dataset", "num_workers", "collate_fn", "worker_init_fn", "prefetch_factor", "pin_memory"),
    *("timeout", "drop_last", "in_order", "multiprocessing_context", "batch_size"),
)
"""What two loaders must share for one to go on with the workers of the other."""


class LoaderKept(LoaderArguments):
    """A loader that is made anew in each epoch goes on with the workers of the one before.

    Its sampler and its length are its own; the workers, their copies of the data set and their
    queues stay. It is done only where the data set is the same object, unchanged, all settings are
    alike, and the loader before has delivered everything. One random number is drawn where a start
    of workers would draw it, so the order of samples stays; random numbers that are drawn inside
    the data set come from workers that were seeded once.
    """

    id = "loader-kept"
    title = "Workers for a loader that is made each epoch"
    safety = "numerics"
    rounding = False
    by_hand = "the loader is made once, before the loop over epochs, with persistent_workers=True"
    parameters: Mapping[str, type] = {}

    def __init__(self, params: Mapping[str, Any], target: Any = None) -> None:
        super().__init__(params, target)
        self.params = {"persistent_workers": True}

    def install(self, process: Process) -> None:
        """Wraps the making of loaders, and the start of their workers."""
        super().install(process)
        self._kept: Any = None  # the iterator that holds the workers
        self._before: weakref.ref[Any] | None = None  # its loader
        self._alike: dict[str, Any] = {}
        self._state: Any = None
        self._handed = self._started = 0
        self._why = "the script makes one loader only"
        loader = process.torch.utils.data.DataLoader
        process.patches.replace(loader, "_get_iterator", self._get_iterator)
        process.at_end(self._end)

    def _get_iterator(self, original: Any) -> Any:
        def _get_iterator(loader: Any) -> Any:
            if loader not in self._states:
                return original(loader)
            iterator = guard.attempt(f"fix {self.id}", self._taken_over, loader)
            if iterator is None:
                iterator = original(loader)
                self._started += 1
            guard.attempt(f"fix {self.id}", self._remember, loader, iterator)
            return iterator

        return like(original, _get_iterator)

    def _remember(self, loader: Any, iterator: Any) -> None:
        self._kept, self._before = iterator, weakref.ref(loader)
        self._alike = {name: getattr(loader, name, None) for name in ALIKE}
        self._state = fingerprint(loader.dataset)

    def _taken_over(self, loader: Any) -> Any:
        """The workers of the loader before, with the new one's sampler; None to start others."""
        kept = self._kept
        if kept is None:
            return None
        other = [
            name
            for name, value in self._alike.items()
            if _differ(value, getattr(loader, name, None))
        ]
        if other:
            self._why = f"each loader has another {other[0]}"
            return None
        if fingerprint(loader.dataset) != self._state:
            self._why = "the script changes the data set between epochs"
            return None
        if kept._tasks_outstanding or not kept._num_yielded:
            self._why = "the loader before has not delivered everything"
            return None
        before = self._before() if self._before is not None else None
        if before is not None and before is not loader:
            before._iterator = None
        draw_start(self._process.torch, loader)
        kept._index_sampler = loader._index_sampler
        kept._reset(loader)
        self._handed += 1
        return kept

    def read_back(self) -> ReadBack:
        """How often workers were taken over, and started."""
        asked = super().read_back()
        seen = {"taken_over": self._handed, "started": self._started}
        if asked.active is False:
            return ReadBack(False, seen, asked.reason)
        if self._started > 1:
            return ReadBack(False, seen, self._why)
        return ReadBack(True if self._handed else None, seen, None if self._handed else self._why)

    def edit(self) -> SourceEdit | None:
        """Where it belongs depends on what the loop does with it."""
        return None

    def _end(self) -> None:
        """The workers go before the process does, as those of any loader."""
        self._kept = None


def _differ(one: Any, other: Any) -> bool:
    """Objects are alike if they are the same one; numbers and texts if they are equal."""
    if isinstance(one, int | float | str) and isinstance(other, int | float | str):
        return one != other
    return one is not other
