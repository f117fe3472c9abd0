"""loader-workers."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from typing import Any

from .fix import Fix, Process, ReadBack
from .made_objects import MadeAt


class LoaderWorkers(Fix):
    """How many processes prepare batches, whether they live on, and how far they work ahead.

    The arguments of the `DataLoader` are changed while it is made, so that the loop, its samplers
    and whatever wraps the loader see one that was built this way.

    It is refused for an iterable data set that does not ask which worker it is in (each worker
    would deliver all of it). Batches and their order stay the same; random numbers drawn inside the
    data set come from the workers' generators.
    """

    id = "loader-workers"
    title = "Loader workers"
    safety = "numerics"
    rounding = False
    parameters: Mapping[str, type] = {
        "num_workers": int,
        "persistent_workers": bool,
        "prefetch_factor": int,
    }
    verifies = ("step.data_wait_share", "down")
    made_in_source = True

    def install(self, process: Process) -> None:
        """Wraps `DataLoader.__init__`."""
        self._process = process
        self._chosen = MadeAt(self.target)
        self._latest: weakref.ref[Any] | None = None
        self._seen: dict[str, Any] = {}  # of the latest loader; it may be gone when it is asked for
        loader = process.torch.utils.data.DataLoader
        self._names = list(inspect.signature(loader.__init__).parameters)
        process.patches.replace(loader, "__init__", self._init)

    def _init(self, original: Any) -> Any:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            named = dict(zip(self._names[1:], args, strict=False)) | kwargs
            kind = type(named.get("dataset"))
            mine = self._chosen.chooses(
                self._process.caller(), f"{kind.__module__}.{kind.__qualname__}"
            )
            if mine:
                original(loader, **self._changed(named))
                self._latest = weakref.ref(loader)
                self._look()
            else:
                original(loader, *args, **kwargs)

        return __init__

    def _changed(self, named: dict[str, Any]) -> dict[str, Any]:
        """The arguments as they are wanted; torch refuses those that need workers without any."""
        changed = {**named, **self.params}
        if not changed.get("num_workers"):
            for name in ("prefetch_factor", "persistent_workers", "multiprocessing_context"):
                changed.pop(name, None)
            changed["timeout"] = 0
        return changed

    def read_back(self) -> ReadBack:
        """The settings of the loaders that were made."""
        if self._latest is None or self._chosen.ambiguous:
            return ReadBack(False, reason=self._chosen.why_none("loader"))
        self._look()
        wanted = self._changed(dict(self.params))
        wrong = [name for name, value in self._seen.items() if wanted.get(name, value) != value]
        reason = f"the loader has other {wrong[0]}" if wrong else None
        return ReadBack(not wrong, dict(self._seen), reason)

    def _look(self) -> None:
        loader = self._latest() if self._latest is not None else None
        if loader is not None:
            self._seen = {name: getattr(loader, name) for name in self.params}
