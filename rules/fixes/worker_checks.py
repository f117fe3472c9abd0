"""Whether a loader can have workers: what would go wrong is found out before it does.

Standard library only.
"""

from __future__ import annotations

import inspect
import multiprocessing
import os
import pickle
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from . import memory
from .dataset_state import own_generator
from .forked_sample import Sample, forked_sample

SHARED_MEMORY = "/dev/shm"
PREFETCH_FACTOR = 2
"""torch's, where the loader does not say."""
ASKS = "get_worker_info"
MEGABYTE = 1_000_000


class WorkerChecks:
    """Asked once for each loader that is about to get workers, or more batches ahead.

    Args:
        torch: The user's torch.
    """

    def __init__(self, torch: Any) -> None:
        self._torch = torch
        self._samples: dict[type, Sample] = {}

    def why_not(self, named: Mapping[str, Any], changed: Mapping[str, Any]) -> str | None:
        """A sentence, None where nothing speaks against it.

        Args:
            named: The loader's arguments as the script gives them.
            changed: As they would be.
        """
        if not changed.get("num_workers"):
            return None
        new = changed.get("num_workers") != named.get("num_workers", 0)
        method = _start_method(changed.get("multiprocessing_context"))
        if new and self._repeats(changed):
            return (
                "each worker would deliver all of the data: the data set is iterable and does not "
                "ask which worker it is in (get_worker_info)"
            )
        if new and _memory_is_short():
            return "less than a tenth of the memory is left, which workers would take"
        generator = own_generator(changed.get("dataset")) if new else None
        if generator is not None:
            return (
                f"the data set draws from a generator of its own ({generator}), of which each "
                "worker would have a copy with the same numbers"
            )
        if new and method != "fork":
            return _why_not_started(changed, method)
        if method != "fork":
            return None
        sample = self._sample(changed)
        if sample.problem is not None and new:
            return sample.problem
        return _why_not_held(changed, sample.batch_bytes)

    def _repeats(self, changed: Mapping[str, Any]) -> bool:
        """Whether an iterable data set has no way to know its share."""
        dataset = changed.get("dataset")
        iterable = self._torch.utils.data.IterableDataset
        if not isinstance(dataset, iterable):
            return False
        classes = [cls for cls in type(dataset).__mro__ if issubclass(cls, iterable)]
        own = [cls for cls in classes if cls is not iterable]
        return not any(ASKS in _source(one) for one in [*own, changed.get("worker_init_fn")])

    def _sample(self, changed: Mapping[str, Any]) -> Sample:
        kind = type(changed.get("dataset"))
        if kind not in self._samples:
            self._samples[kind] = forked_sample(self._torch, changed)
        return self._samples[kind]


def _memory_is_short() -> bool:
    available, total = memory.host_memory()
    return available is not None and total is not None and available < memory.LEAST_SHARE * total


def _start_method(context: Any) -> str:
    """Without fixing it, as asking multiprocessing in the usual way would."""
    if isinstance(context, str):
        return context
    if context is not None:
        return str(context.get_start_method())
    chosen = multiprocessing.get_start_method(allow_none=True)
    return chosen or multiprocessing.get_all_start_methods()[0]


def _source(thing: Any) -> str:
    try:
        return inspect.getsource(thing) if thing is not None else ""
    except (OSError, TypeError):  # typed in, or compiled
        return ""


class _Nowhere:
    """A file that keeps nothing."""

    def write(self, data: bytes) -> int:
        return len(data)


def _why_not_started(changed: Mapping[str, Any], method: str) -> str | None:
    """Workers that are spawned get their parts pickled, and import the main script."""
    for name in ("dataset", "collate_fn", "worker_init_fn"):
        try:
            pickle.Pickler(_Nowhere(), pickle.HIGHEST_PROTOCOL).dump(changed.get(name))
        except (pickle.PicklingError, TypeError, AttributeError, ValueError) as error:
            first = str(error).partition("\n")[0][:160]
            return f"workers are started by {method}, and the {name} does not pickle ({first})"
    file = getattr(sys.modules.get("__main__"), "__file__", None)
    if file is None:
        return None
    try:
        guarded = "__name__" in Path(file).read_text(encoding="utf-8", errors="replace")
    except OSError:
        return None
    if guarded:
        return None
    return (
        f'workers are started by {method}, and the script has no `if __name__ == "__main__"`: each '
        "worker would run all of it"
    )


def _why_not_held(changed: Mapping[str, Any], batch_bytes: int | None) -> str | None:
    """Batches travel through shared memory, of which containers have little."""
    if not batch_bytes:
        return None
    try:
        status = os.statvfs(SHARED_MEMORY)
    except OSError:
        return None
    free = status.f_bavail * status.f_frsize
    workers = int(changed["num_workers"])
    ahead = int(changed.get("prefetch_factor") or PREFETCH_FACTOR)
    most = workers * (ahead + 1) * batch_bytes
    if most <= free:
        return None
    return (
        f"its workers may hold {most / MEGABYTE:.0f} MB of batches in {SHARED_MEMORY}, where "
        f"{free / MEGABYTE:.0f} MB are free"
    )
