"""Inside a DataLoader worker: how long each batch took to make.

The fetcher classes of torch are timed, never the user's data set or collate function. A worker has
no thread of ours: records are flushed from the fetch itself, a few times a second.
"""

from __future__ import annotations

from collections.abc import Callable
from time import perf_counter_ns, thread_time_ns
from typing import Any

from ..model.records import Fetch
from . import guard
from .describe.batch import batch_samples
from .patching import Patches

FLUSH_EVERY_NS = 250_000_000


class WorkerHooks:
    """Times batches where `get_worker_info()` says that this is a worker.

    Args:
        torch: The user's torch.
        writer: Opens the process's folder at the first batch and gives its writer.
    """

    def __init__(self, torch: Any, writer: Callable[[], Any]) -> None:
        self._module = torch.utils.data._utils.worker
        self._fetchers = torch.utils.data._utils.fetch
        self._open = writer
        self._writer: Any = None
        self._flushed_ns = 0

    def install(self, patches: Patches) -> None:
        """Patches both fetchers."""
        for name in ("_MapDatasetFetcher", "_IterableDatasetFetcher"):
            patches.replace(getattr(self._fetchers, name), "fetch", self._fetch)

    def reset(self) -> None:
        """Forgets the parent's writer after a fork."""
        self._writer = None

    def _fetch(self, original: Any) -> Any:
        module = self._module

        def fetch(fetcher: Any, *args: Any, **kwargs: Any) -> Any:
            worker = module._worker_info
            if worker is None:
                return original(fetcher, *args, **kwargs)
            start_ns, start_cpu_ns = perf_counter_ns(), thread_time_ns()
            batch = original(fetcher, *args, **kwargs)
            end_ns, end_cpu_ns = perf_counter_ns(), thread_time_ns()
            guard.attempt(
                "workers",
                self._record,
                worker.id,
                start_ns,
                end_ns - start_ns,
                end_cpu_ns - start_cpu_ns,
                batch,
            )
            return batch

        return fetch

    def _record(self, worker: int, start_ns: int, wall_ns: int, cpu_ns: int, batch: Any) -> None:
        if self._writer is None:
            self._writer = self._open()
        self._writer.fetch(Fetch(worker, start_ns, wall_ns, cpu_ns, batch_samples(batch)))
        now_ns = start_ns + wall_ns
        if now_ns - self._flushed_ns > FLUSH_EVERY_NS:
            self._flushed_ns = now_ns
            self._writer.flush()
