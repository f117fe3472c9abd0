"""Where loaders fetch their batches, in the training process or in a worker.

Standard library only.
"""

from __future__ import annotations

import weakref
from collections.abc import Callable
from typing import Any

from ...profiler.agent import guard
from ...profiler.agent.location import absolute_path, class_location
from ...profiler.agent.patching import like
from .fix import Process

MOST_DATASETS = 8
"""Of a data set that holds others, which are looked into."""

Chosen = Callable[[Any, Any], None]
"""Takes a loader and its fetcher: an object with `dataset`, `collate_fn` and `fetch(indices)`."""


class Loading:
    """Hands each new fetcher of the loaders that are meant to a fix, before its first batch.

    A worker that is forked makes its fetcher itself, with the patches and objects of its parent.

    Args:
        process: Whose loaders are watched.
        target: The line that makes the loader, or defines its data set's class or its collate
            function. None for every loader.
        name: Of the fix.
        on_fetcher: May replace what the fetcher holds.
        on_loader: Is called in the training process when a loader is about to be read.
    """

    def __init__(
        self,
        process: Process,
        target: Any,
        name: str,
        on_fetcher: Chosen,
        on_loader: Callable[[Any], None] = lambda _: None,
    ) -> None:
        self._process = process
        self._target = target
        self._name = name
        self._on_fetcher = on_fetcher
        self._on_loader = on_loader
        self._lines: weakref.WeakKeyDictionary[Any, tuple[str, int]] = weakref.WeakKeyDictionary()
        self._read: Any = None  # the loader whose iterator is being made
        self.loaders = 0
        loader = process.torch.utils.data.DataLoader
        iterator = process.torch.utils.data.dataloader._BaseDataLoaderIter
        fetcher = process.torch.utils.data._utils.fetch._BaseDatasetFetcher
        process.patches.replace(loader, "__init__", self._init)
        process.patches.replace(iterator, "__init__", self._iterator)
        process.patches.replace(fetcher, "__init__", self._fetcher)

    def why_none(self) -> str:
        """Why no loader was chosen."""
        if self._target is None or self._read is None:
            return "no loader was read yet"
        return f"no loader is about {self._target.file}:{self._target.line}"

    def _init(self, original: Any) -> Any:
        def __init__(loader: Any, *args: Any, **kwargs: Any) -> None:
            original(loader, *args, **kwargs)
            guard.attempt(f"fix {self._name}", self._note_line, loader)

        return like(original, __init__)

    def _note_line(self, loader: Any) -> None:
        where = self._process.caller()
        if where is not None:
            self._lines[loader] = (str(where["file"]), int(where["line"]))

    def _iterator(self, original: Any) -> Any:
        def __init__(iterator: Any, loader: Any, *args: Any, **kwargs: Any) -> None:
            self._read = weakref.ref(loader)
            if guard.attempt(f"fix {self._name}", self._means, loader):
                self.loaders += 1
                guard.attempt(f"fix {self._name}", self._on_loader, loader)
            original(iterator, loader, *args, **kwargs)

        return like(original, __init__)

    def _fetcher(self, original: Any) -> Any:
        def __init__(fetcher: Any, *args: Any, **kwargs: Any) -> None:
            original(fetcher, *args, **kwargs)
            loader = self._read() if self._read is not None else None
            if loader is not None and guard.attempt(f"fix {self._name}", self._means, loader):
                guard.attempt(f"fix {self._name}", self._on_fetcher, loader, fetcher)

        return like(original, __init__)

    def _means(self, loader: Any) -> bool:
        """Whether the target is about this loader."""
        if self._target is None:
            return True
        line = (self._target.file, self._target.line)
        if self._lines.get(loader) == line:
            return True
        if any(_class_line(dataset) == line for dataset in _inside(loader.dataset)):
            return True
        collate = loader.collate_fn
        return holds_line(collate, line) or holds_line(type(collate).__call__, line)


def started_by_fork(torch: Any, loader: Any) -> bool:
    """Whether the loader's workers, if it has any, share what the process holds now."""
    if loader.num_workers == 0:
        return True
    context = loader.multiprocessing_context
    if isinstance(context, str):
        return context == "fork"
    chosen = context if context is not None else torch.multiprocessing
    # Asked in the usual way, multiprocessing would settle on a method before the script does.
    method = chosen.get_start_method(allow_none=True)
    return bool((method or torch.multiprocessing.get_all_start_methods()[0]) == "fork")


def _inside(dataset: Any) -> list[Any]:
    """The data set, and what torch's own Subset and ConcatDataset hold."""
    found = [dataset]
    for one in found:
        if len(found) < MOST_DATASETS and type(one).__module__.startswith("torch.utils.data"):
            parts = [getattr(one, "dataset", None), *(getattr(one, "datasets", None) or ())]
            found += [part for part in parts if part is not None]
    return found


def _class_line(dataset: Any) -> tuple[str, int] | None:
    where = class_location(type(dataset))
    return (where["file"], where["line"]) if where is not None else None


def holds_line(function: Any, line: tuple[str, int]) -> bool:
    """Whether a function's source holds that line."""
    code = getattr(function, "__code__", None)
    if code is None or absolute_path(code.co_filename) != line[0]:
        return False
    last = max((number for *_, number in code.co_lines() if number), default=0)
    return bool(code.co_firstlineno <= line[1] <= last)
