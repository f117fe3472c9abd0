"""What fixes of DistributedDataParallel share: arguments of the one that a line makes."""

from __future__ import annotations

import inspect
import weakref
from collections.abc import Mapping
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.patching import like
from .fix import Fix, Process, ReadBack
from .made_objects import MadeAt
from .source_edit import CallArguments, SourceEdit

DEFAULTS: Mapping[str, Any] = {
    "bucket_cap_mb": 25,
    "find_unused_parameters": False,
    "gradient_as_bucket_view": False,
}
"""Of torch's."""


class ParallelArguments(Fix):
    """Gives the DistributedDataParallel of one line other arguments."""

    verifies = ("step.comm_exposed_share", "down")
    made_in_source = True

    def install(self, process: Process) -> None:
        """Wraps `DistributedDataParallel.__init__`."""
        self._process = process
        self._chosen = MadeAt(self.target)
        self._refused: str | None = None
        self._latest: weakref.ref[Any] | None = None
        self._seen: dict[str, Any] = {}
        if not process.torch.distributed.is_available():
            self._refused = "this torch cannot train in several processes"
            return
        parallel = process.torch.nn.parallel.DistributedDataParallel
        self._names = list(inspect.signature(parallel.__init__).parameters)
        process.patches.replace(parallel, "__init__", self._init)

    def _init(self, original: Any) -> Any:
        def __init__(parallel: Any, *args: Any, **kwargs: Any) -> None:
            changed = guard.attempt(f"fix {self.id}", self._changed_here, args, kwargs)
            if changed is None:
                original(parallel, *args, **kwargs)
                return
            original(parallel, **changed)
            self._latest = weakref.ref(parallel)
            guard.attempt(f"fix {self.id}", self._made, parallel)

        return like(original, __init__)

    def _changed_here(self, args: tuple[Any, ...], kwargs: Any) -> dict[str, Any] | None:
        named = dict(zip(self._names[1:], args, strict=False)) | kwargs
        kind = type(named.get("module"))
        if not self._chosen.chooses(
            self._process.caller(), f"{kind.__module__}.{kind.__qualname__}"
        ):
            return None
        self._refused = self._why_not(named)
        return None if self._refused is not None else {**named, **self._wanted()}

    def _wanted(self) -> dict[str, Any]:
        """The arguments that are given when it is made."""
        return self.params

    def _why_not(self, named: Mapping[str, Any]) -> str | None:
        """Why the arguments are left as they are."""
        return None

    def _made(self, parallel: Any) -> None:
        """The chosen one was made."""
        self._look()

    def _look(self) -> None:
        """Remembers what the object says; it may be gone when it is asked for."""
        raise NotImplementedError

    def read_back(self) -> ReadBack:
        """What the object says of itself."""
        if self._refused is not None:
            return ReadBack(False, dict(self._seen), self._refused)
        if self._latest is None or self._chosen.ambiguous:
            return ReadBack(False, reason=self._chosen.why_none("DistributedDataParallel"))
        if self._latest() is not None:
            self._look()
        wrong = [name for name, value in self.params.items() if self._seen.get(name) != value]
        reason = f"it has another {wrong[0]}" if wrong else None
        return ReadBack(not wrong, dict(self._seen), reason)

    def edit(self) -> SourceEdit:
        """The arguments of the very call.

        Raises:
            ValueError: there are no parameters.
        """
        if not self.params:
            raise ValueError(f"{self.id} needs its parameters")
        return CallArguments(("DistributedDataParallel",), self.params, defaults=DEFAULTS)
