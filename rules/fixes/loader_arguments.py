"""What fixes of loaders share: the arguments of one `DataLoader` are changed while it is made."""

from __future__ import annotations

import inspect
import weakref
from typing import Any

from ...profiler.agent import guard
from .dataset_state import fingerprint
from .fix import Fix, Process, ReadBack
from .loader_edit import loader_edit
from .made_objects import MadeAt
from .source_edit import SourceEdit
from .worker_checks import WorkerChecks

WITH_WORKERS = ("prefetch_factor", "persistent_workers", "multiprocessing_context")
"""Arguments that torch takes only where there are workers."""


class LoaderArguments(Fix):
    """Gives the loader of one line other arguments.

    The loop, its samplers and whatever wraps the loader see one that was built this way. A loader
    that does not suit is made as the script says.
    """

    verifies: tuple[str, str] | None = ("step.data_wait_share", "down")
    made_in_source = True

    def install(self, process: Process) -> None:
        """Wraps `DataLoader.__init__`."""
        self._process = process
        self._chosen = MadeAt(self.target)
        self._checks = WorkerChecks(process.torch)
        self._refused: str | None = None
        self._latest: weakref.ref[Any] | None = None
        self._seen: dict[str, Any] = {}  # of the latest loader; it may be gone when it is asked for
        loader = process.torch.utils.data.DataLoader
        self._names = list(inspect.signature(loader.__init__).parameters)
        self._states: weakref.WeakKeyDictionary[Any, Any] = weakref.WeakKeyDictionary()
        self._made_to_last: weakref.WeakSet[Any] = weakref.WeakSet()
        process.patches.replace(loader, "__init__", self._init)
        if self.params.get("persistent_workers"):
            process.patches.replace(loader, "__iter__", self._iter)

    def _init(self, original: Any) -> Any:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            changed = guard.attempt(f"fix {self.id}", self._changed_here, args, kwargs)
            lasts = bool(kwargs.get("persistent_workers"))
            if changed is None:
                original(loader, *args, **kwargs)
                return
            original(loader, **changed)
            self._latest = weakref.ref(loader)
            self._states[loader] = None
            if changed.get("persistent_workers") and not lasts:
                self._made_to_last.add(loader)
            self._look()

        return __init__

    def _changed_here(self, args: tuple[Any, ...], kwargs: Any) -> dict[str, Any] | None:
        """The arguments of the loader that is being made, None to leave it alone."""
        named = dict(zip(self._names[1:], args, strict=False)) | kwargs
        kind = type(named.get("dataset"))
        name = f"{kind.__module__}.{kind.__qualname__}"
        if not self._chosen.chooses(self._process.caller(), name):
            return None
        changed = self._changed(named)
        reason = self._why_not(named, changed)
        self._refused = self._refused or reason
        return changed if reason is None else None

    def _changed(self, named: dict[str, Any]) -> dict[str, Any]:
        """The arguments as they are wanted; torch refuses those that need workers without any."""
        changed = {**named, **self.params}
        if not changed.get("num_workers"):
            for name in WITH_WORKERS:
                changed.pop(name, None)
            changed["timeout"] = 0
        return changed

    def _why_not(self, named: dict[str, Any], changed: dict[str, Any]) -> str | None:
        unknown = [name for name in self.params if name not in self._names]
        if unknown:
            return f"the loader of this torch has no {unknown[0]}"
        if not self.params.get("num_workers") and not changed.get("num_workers"):
            needs = [name for name, value in self.params.items() if name != "num_workers" and value]
            return f"the loader has no workers, which {needs[0]} needs" if needs else None
        return self._checks.why_not(named, changed)

    def _iter(self, original: Any) -> Any:
        def __iter__(loader: Any) -> Any:
            if loader in self._states:
                guard.attempt(f"fix {self.id}", self._renew, loader)
                if loader in self._made_to_last and loader._iterator is not None:
                    draw_start(self._process.torch, loader)
            return original(loader)

        return __iter__

    def _renew(self, loader: Any) -> None:
        """Workers that live on have the first epoch's data set: they go when it has changed."""
        before, now = self._states[loader], fingerprint(loader.dataset)
        self._states[loader] = now
        if before is None or before == now or loader._iterator is None:
            return
        loader._iterator._shutdown_workers()
        loader._iterator = None
        self._refused = (
            "the script changes the data set between epochs, which workers that live on do not see"
        )

    def read_back(self) -> ReadBack:
        """The settings of the loaders that were made."""
        if self._refused is not None:
            return ReadBack(False, dict(self._seen), self._refused)
        if self._latest is None or self._chosen.ambiguous:
            return ReadBack(False, reason=self._chosen.why_none("loader"))
        self._look()
        wrong = [name for name, value in self._seen.items() if self._wanted(name, value) != value]
        reason = f"the loader has other {wrong[0]}" if wrong else None
        return ReadBack(not wrong, dict(self._seen), reason)

    def edit(self) -> SourceEdit | None:
        """The arguments of the very call."""
        return loader_edit(self.params)

    def _wanted(self, name: str, value: Any) -> Any:
        alone = self.params.get("num_workers", 1) == 0 and name in WITH_WORKERS
        return value if alone else self.params[name]

    def _look(self) -> None:
        loader = self._latest() if self._latest is not None else None
        if loader is not None:
            self._seen = {name: getattr(loader, name) for name in self.params}


def draw_start(torch: Any, loader: Any) -> None:
    """Draws the number that seeds workers when they are started.

    Workers that live on are not started again; what the script draws after that, such as the next
    epoch's order, stays as it was.
    """
    torch.empty((), dtype=torch.int64).random_(generator=loader.generator)
